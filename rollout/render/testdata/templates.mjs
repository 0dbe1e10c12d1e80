// Confirms templates/renderings.json, which templates.py wrote, with Hugging Face's Jinja for JavaScript: it
// prints where the two differ and then fails. What this implementation lacks (the filter reject, the sign +, some methods) is only counted.
//
//   npm install @huggingface/jinja@0.5.11 && node templates.mjs
import { Template } from "@huggingface/jinja";
import fs from "fs";

// strftime_now tells this time.
const noon = new Date("2026-11-21T12:00:00Z");
globalThis.Date = class extends Date {
  constructor() {
    super(noon);
  }
};

const read = (file) => fs.readFileSync(`templates/${file}`, "utf8");
const conversations = new Map(JSON.parse(read("conversations.json")).map((c) => [c.name, c]));
let same = 0;
let lacking = 0;
let different = 0;
for (const { template, conversation, text, error } of JSON.parse(read("renderings.json"))) {
  const { messages, tools, add_generation_prompt, variables } = conversations.get(conversation);
  const tokens = template.startsWith("llama") ? { bos_token: "<|begin_of_text|>", eos_token: "<|eot_id|>" } : { eos_token: "<|im_end|>" };
  let got;
  try {
    const scene = { messages, add_generation_prompt: add_generation_prompt ?? false, ...(tools ? { tools } : {}), ...tokens, ...variables };
    got = new Template(read(`${template}.jinja`)).render(scene);
  } catch (e) {
    got = e.message;
  }
  if (got === (text ?? error)) {
    same++;
  } else if (/^(Unknown (.* filter|statement)|Cannot call something)/.test(got)) {
    lacking++;
  } else {
    different++;
    console.log(`${template}, ${conversation}:\n ${JSON.stringify(got)}\n ${JSON.stringify(text ?? error)}`);
  }
}
console.log(`${same} the same, ${lacking} with parts it lacks, ${different} different`);
process.exit(different ? 1 : 0);
