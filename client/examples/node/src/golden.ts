// Check this port against client/protocol/golden, without a server: all bytes must be equal, except for pictures that are
// only near.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { prepare } from "./prepare.js";
import { countsOf, inferRequest, placesOf, PROTOCOL, readAnswer, service } from "./recommender.js";

const folder = join(PROTOCOL, "golden");
const golden = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8"));
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");
const read = (hex: string) => readAnswer(service.ModelInfer.responseDeserialize(Buffer.from(hex, "hex")));
const equal = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);

const places = placesOf(read(golden.vocabulary.answer));
const counts = countsOf(golden.history, places);
const metadata = service.ModelMetadata.requestSerialize({ name: golden.model }).toString("hex");
const blank = inferRequest(new Uint8Array(224 * 224 * 3), new Float32Array(places.size), places.size, golden.id);
const NEAR = ["large.jpg"]; // sharp decodes it at full scale
const failed: string[] = [];
if (!equal(golden.vocabulary.tags.map((tag: string) => places.get(tag)), [...places.keys()].map((_, i) => i))) {
  failed.push("vocabulary");
}
if (Buffer.from(counts.buffer).toString("hex") !== golden.counts) failed.push("counts");
if (metadata !== golden.metadata.request) failed.push("metadata request");
if (sha256(service.ModelInfer.requestSerialize(blank)) !== golden.vocabulary.request_sha256) failed.push("blank request");
for (const each of golden.pictures) {
  const tensor = await prepare(readFileSync(join(folder, each.file)));
  const request = service.ModelInfer.requestSerialize(inferRequest(tensor, counts, golden.k, golden.id));
  const tags = read(each.answer).tags.map(({ name, score }) => [name, score]);
  const near = NEAR.includes(each.file);
  if (!near && sha256(tensor) !== each.tensor_sha256) failed.push(`${each.file}: tensor`);
  else if (!near && sha256(request) !== each.request_sha256) failed.push(`${each.file}: request`);
  if (!equal(tags, each.tags)) failed.push(`${each.file}: tags`);
}
console.log(failed.length === 0 ? `equal, but for ${NEAR}` : `not equal: ${failed.join(", ")}`);
process.exitCode = failed.length === 0 ? 0 : 1;
