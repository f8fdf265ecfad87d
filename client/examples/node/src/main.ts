// node build/main.js URL PICTURE [HISTORY]: print the five best tags as JSON, such as for localhost:8001 photo.jpg '{"sea": 3}'
import { readFile } from "node:fs/promises";
import { prepare } from "./prepare.js";
import { Recommender } from "./recommender.js";

const [url, picture, history = "{}"] = process.argv.slice(2);
if (picture === undefined) {
  console.error("expected: node build/main.js URL PICTURE [HISTORY]");
  process.exit(2);
}
const recommender = new Recommender(url);
try {
  console.log(JSON.stringify(await recommender.recommend(await prepare(await readFile(picture)), JSON.parse(history))));
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  recommender.close();
}
