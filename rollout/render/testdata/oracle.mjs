// Writes what independent implementations make of this package's files: encodings.json from
// tokenizer.json, and conversation.json from a chat_template.jinja that SaveFolder wrote.
//
//   npm install @huggingface/tokenizers@0.2.0 @huggingface/jinja && node oracle.mjs chat_template.jinja
import { Tokenizer } from "@huggingface/tokenizers";
import { Template } from "@huggingface/jinja";
import fs from "fs";

const tokenizer = new Tokenizer(JSON.parse(fs.readFileSync("tokenizer.json", "utf8")), {
  tokenizer_class: "PreTrainedTokenizerFast",
  clean_up_tokenization_spaces: false,
});

const parts = [
  ..." \t\n\r'.,!?()<>\"0123456789abestrlmdvSTLDVREM",
  "  ", "\r\n", "\n\n", "   ", "'s", "'LL", "'Re", "\u00a0", "\u2003", "\u2028", "\u000b", "\u000c",
  "é", "ß", "Ω", "ж", "中", "文", "٣", "Ⅷ", "½", "²", "e\u0301", "\u200d", "🙂", "👍🏽", "\ufffd", "\u00ad",
  "mira", " mira", " who", " is", "search", "tolan", "times", "42", "1234", "plus",
];
let state = 7; // a linear congruential generator, so that the file can be made again
const next = (n) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 4294967296) * n);
};
const texts = [
  "", "who is the teacher of mira?", "mira has 12 apples and 345 books, then\n\n  buys 6.", "they'll don't WE'RE i'm he'd",
  "def f(x):\n\treturn x  # \r\n\r\n", '{"name": "search", "args": {"q": "mira"}}', "   leading and trailing   ", "été à Zürich, 中文和日本語 🙂🙂",
];
for (let i = 0; i < 140; i++) {
  let text = "";
  for (let n = 1 + next(12); n > 0; n--) text += parts[next(parts.length)];
  texts.push(text);
}
const cases = texts.map((text) => ({ text, ids: tokenizer.encode(text).ids }));
fs.writeFileSync("encodings.json", "[\n" + cases.map((c) => JSON.stringify(c)).join(",\n") + "\n]\n");

const template = fs.readFileSync(process.argv[2], "utf8");
const messages = [
  { role: "user", content: "who is mira?\n" },
  { role: "assistant", content: " <call>search(mira)</call> " },
  { role: "tool", content: "\n  mira < tolan & 'perun'" },
];
const rendered = new Template(template).render({ messages, add_generation_prompt: true });
fs.writeFileSync("conversation.json", JSON.stringify({ template, rendered }, null, 1) + "\n");
