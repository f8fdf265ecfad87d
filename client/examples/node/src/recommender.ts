// A caller of the tag_recommender on Triton, as docs/protocol.md describes it.
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, credentials, Metadata, status, type MethodDefinition, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

export const PROTOCOL = fileURLToPath(new URL("../../../protocol/", import.meta.url));
const MODEL = "tag_recommender";
const IMAGE_BYTES = 224 * 224 * 3;
const ATTEMPTS = 6;

type Method = MethodDefinition<object, any>;
export const service = loadSync("grpc_service.proto", { includeDirs: [PROTOCOL], keepCase: true, longs: Number })[
  "inference.GRPCInferenceService"
] as unknown as { ModelInfer: Method; ModelMetadata: Method };

export interface Tag {
  name: string;
  score: number; // a probability, 0 to 1
}

export interface Answer {
  tags: Tag[];
  indexes: number[]; // the tags' places in the vocabulary
  release: string;
}

/** The vocabulary of a release: tag -> its place in the counts. */
export type Places = Map<string, number>;

/** How often a user used each tag, float32 [N]; tags outside the vocabulary are left out. */
export function countsOf(history: Record<string, number>, places: Places): Float32Array {
  const counts = new Float32Array(places.size);
  for (const [tag, count] of Object.entries(history)) {
    if (!(count >= 0 && count < 3.4e38)) throw new Error(`count of ${tag} is ${count}: expected a finite number from 0`);
    const place = places.get(tag.trim().normalize("NFC"));
    if (place !== undefined) counts[place] += count;
  }
  return counts;
}

/** The ModelInferRequest for one picture; `image` is 224 x 224 x 3 bytes, `k` the number of tags. */
export function inferRequest(image: Uint8Array, counts: Float32Array, k: number, id: string): object {
  if (image.length !== IMAGE_BYTES) throw new Error(`the image has ${image.length} bytes: expected ${IMAGE_BYTES}`);
  const little = Buffer.alloc(4 * counts.length);
  counts.forEach((count, i) => little.writeFloatLE(count, 4 * i));
  return {
    model_name: MODEL,
    id,
    inputs: [
      { name: "IMAGE", datatype: "UINT8", shape: [1, 224, 224, 3] },
      { name: "USER_TAG_COUNTS", datatype: "FP32", shape: [1, counts.length] },
    ],
    outputs: [{ name: "TAGS", parameters: { classification: { int64_param: k } } }],
    raw_input_contents: [image, little],
  };
}

/** The tags of a ModelInferResponse, best first. Each entry is its length in 4 bytes, then score:index:label. */
export function readAnswer(response: any): Answer {
  const contents: Buffer = response.raw_output_contents[0];
  const answer: Answer = { tags: [], indexes: [], release: response.model_version };
  for (let start = 0; start < contents.length; ) {
    const end = start + 4 + contents.readUInt32LE(start);
    const entry = /^([^:]*):([^:]*):(.*)$/s.exec(contents.toString("utf8", start + 4, end));
    if (entry === null || end > contents.length) throw new Error("malformed answer: expected score:index:label");
    answer.tags.push({ name: entry[3], score: Number(entry[1]) });
    answer.indexes.push(Number(entry[2]));
    start = end;
  }
  return answer;
}

/** The vocabulary, from an answer with all N classes. */
export function placesOf(answer: Answer): Places {
  return new Map(answer.indexes.map((index, i) => [answer.tags[i].name, index]));
}

/** Whether the server is gone or shutting down. What it refuses, or answers too late, is not tried again. */
export function mayTryAgain(error: ServiceError): boolean {
  const words = error.details;
  if (error.code === status.CANCELLED) return true;
  if (error.code === status.NOT_FOUND) return words.includes("has no available versions");
  if (error.code !== status.UNAVAILABLE) return false;
  return !/Request timeout expired|protocol is restricted|Exceeds maximum queue size|overflow|overloaded|429/.test(words);
}

/** Asks one server, or all addresses of a name (`dns:///name:8001`) in turn. */
export class Recommender {
  private readonly client: Client;
  private learned: Promise<{ places: Places; release: string }> | undefined;

  constructor(url: string, private readonly deadlineMs = 5000) {
    this.client = new Client(url, credentials.createInsecure(), {
      "grpc.max_receive_message_length": 64 * 1024 * 1024,
      "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
    });
  }

  /** The k best tags for a prepared picture and a user's history (tag -> count). Throws grpc-js's ServiceError. */
  async recommend(image: Uint8Array, history: Record<string, number>, k = 5, id = ""): Promise<Tag[]> {
    const deadline = Date.now() + this.deadlineMs;
    for (;;) {
      const { places, release } = await (this.learned ??= this.learn(deadline, id));
      let refused: unknown;
      try {
        const request = inferRequest(image, countsOf(history, places), k, id);
        const answer = readAnswer(await this.call(service.ModelInfer, request, deadline));
        const same = answer.indexes.every((index, i) => places.get(answer.tags[i].name) === index);
        if (answer.release === release && same) return answer.tags;
      } catch (error) {
        if ((error as ServiceError).code !== status.INVALID_ARGUMENT) throw error;
        refused = error; // perhaps because a new release has another N
      }
      this.learned = undefined;
      if (refused !== undefined && (await (this.learned = this.learn(deadline, id))).release === release) throw refused;
    }
  }

  /** Ask for N, then for the labels of all N classes of a blank picture. */
  private async learn(deadline: number, id: string): Promise<{ places: Places; release: string }> {
    try {
      const metadata = await this.call(service.ModelMetadata, { name: MODEL }, deadline);
      const n: number = metadata.outputs[0].shape.at(-1);
      const blank = inferRequest(new Uint8Array(IMAGE_BYTES), new Float32Array(n), n, id);
      const answer = readAnswer(await this.call(service.ModelInfer, blank, deadline));
      return { places: placesOf(answer), release: answer.release };
    } catch (error) {
      this.learned = undefined;
      throw error;
    }
  }

  private async call(method: Method, request: object, deadline: number): Promise<any> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await new Promise((resolve, reject) => {
          const { path, requestSerialize, responseDeserialize } = method;
          const done = (error: ServiceError | null, response: unknown) => (error ? reject(error) : resolve(response));
          this.client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, new Metadata(), { deadline }, done);
        });
      } catch (error) {
        if (attempt === ATTEMPTS || !mayTryAgain(error as ServiceError)) throw error;
        await sleep(Math.min(500, 50 * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2));
      }
    }
  }

  close(): void {
    this.client.close();
  }
}
