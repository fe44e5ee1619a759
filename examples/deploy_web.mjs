// Runs a model in ONNX Runtime Web and prints its outputs as JSON.
//   node deploy_web.mjs FOLDER_WITH_NODE_MODULES TASK.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const [packages, path] = process.argv.slice(2);
const ort = createRequire(join(packages, "package.json"))("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const task = JSON.parse(readFileSync(path, "utf8"));
const folder = dirname(path);

const read = ({ file, dims, type }) => {
  const bytes = readFileSync(join(folder, file));
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const data = type === "int64" ? new BigInt64Array(buffer) : new Float32Array(buffer);
  return new ort.Tensor(type, data, dims);
};
const model = new Uint8Array(readFileSync(join(folder, task.model)));
const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
const feeds = Object.fromEntries(task.inputs.map((input) => [input.name, read(input)]));
const found = await session.run(feeds);
console.log(JSON.stringify(task.outputs.map((name) => Array.from(found[name].data))));
