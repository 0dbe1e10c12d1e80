// Writes families/*/encodings.json: what Hugging Face's implementation for JavaScript makes of the
// families' tokenizer.json, bare and with add_special_tokens.
//
//   npm install @huggingface/tokenizers@0.2.0 && node families.mjs
import { Tokenizer } from "@huggingface/tokenizers";
import fs from "fs";

const written = [
  "", " ", "\n", "\t", "  ", "\r\n", "a", "Hello world", "Hello, World!  How are you?",
  "they'll don't WE'RE i'm he'd it's I'VE 'tis 'Twas rock'n'roll 'S'S''s",
  "can't  won't\tshan't\n'll 'Ll 'lL 'LL", "12345 67 8 9.10 1,234,567 0x1F 1e-5", "１２３ ٣٤٥٦ Ⅷ½²①", "a1b2c3 4d5",
  "def f(x):\n\treturn x  # comment\r\n\r\n", "    indented\n        more\n\n\n   less   ", "trailing spaces   ", "   leading", " \n \n ", "\n\n\n\n", "\t\t\tx",
  "x\u00a0y\u2003z\u2028w\u3000v\u0085u\u200bt\ufefft", "a\u000bb\u000cc", "\r", "\r\r\n\n\r", " \r\n x", "mixed \t \n \t spaces",
  "今天天气很好，我们去公园散步吧。", "東京は日本の首都です。カタカナもﾊﾝｶｸも。", "안녕하세요 세계", "안녕 (jamo)", "สวัสดีชาวโลก", "नमस्ते दुनिया, आप कैसे हैं?", "مرحبا بالعالم ١٢٣", "שלום עולם",
  "Zürich Größe naïve café", "Zu\u0308rich Gro\u0308ße nai\u0308ve cafe\u0301", "e\u0301\u0323 a\u0323\u0302 \u0344 \u212b \u2126 \u1e9b\u0323 q\u0307\u0323", "Việt Vie\u0323\u0302t", "ﬁ ﬂ ﬃ Å Ω K", "ſ 'ſ ẞ ß İ ı",
  "😀 😃👍👍🏽", "👩‍👩‍👧‍👦 🏳️‍🌈 ❤️", "🇩🇪🇫🇷🇯🇵", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚𝟛", "\u0000\u0001\u001f\u007f", "\ufffd\ufffe\uffff", "\u200d\u200c\u00ad", "�� replacement",
  "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "x<|im_end|>y", " <|im_end|> ", "<|im_end|><|im_end|>", "<<|im_end|>>", "<|im_end|", "|im_end|>", "<|IM_END|>", "< |im_end|>",
  "<tool_call>\n{\"name\": \"search\", \"arguments\": {\"q\": \"x\"}}\n</tool_call>", "<think>\n\n</think>\n\nanswer", "<think>hm</think", "</think><think>",
  "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nHi<|eot_id|>", "<|eot_id|><|eom_id|><|python_tag|>", "<|reserved_special_token_0|> <|reserved_special_token_17|>1", "a<|endoftext|>b <|endoftext|> c\n<|endoftext|>\n",
  "<|im_end|>\u0338 \u0338<|im_end|>", "https://example.com/a/b?c=d&e=f#g", "user@example.org, C:\\Users\\x", "!!!???...---===>>><<<", "a--b__c++d**e//f", "(a)[b]{c}<d>\"e\"'f'`g`", "!!\n\n??\r\n..\n", " !", "  !", "\n!", "_underscore _a", "don’t ‘quote’ “double” … – —",
  "a" + "\u0316".repeat(40), "e" + "\u0316\u0301".repeat(35) + "x", "\u0301".repeat(33), "o" + "\u0338\u0327\u0301".repeat(20) + "\u0308", "한" + "\u0301".repeat(32) + "\u11a8", "\u1100\u1161\u11a8" + "\u0316".repeat(31),
  "a".repeat(300), " ".repeat(100), "\n".repeat(50) + "x", "ab".repeat(100), "1".repeat(50), "é".repeat(40), "!".repeat(70), "the ".repeat(40), "😀".repeat(20), " \n".repeat(20),
];
const parts = [
  ..." \t\n\r'.,!?()<>\"0123456789abestrlmdvSTLDVREM", "  ", "\r\n", "\n\n", "   ", "'s", "'LL", "'Re", "'ve", "\u00a0", "\u2003", "\u2028", "\u000b", "\u0085",
  "é", "e\u0301", "ß", "Ω", "\u2126", "ж", "中", "文", "한", "한", "٣", "Ⅷ", "½", "\u0301", "\u200d", "🙂", "👍🏽", "\ufffd", "the", " the", " that", "ing", "42", "1234", "def ",
  "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<think>", "</tool_call>", "<|", "|>",
];
let state = 7; // a linear congruential generator, so that the file can be made again
const next = (n) => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 4294967296) * n);
};
for (let i = 0; i < 160; i++) {
  let text = "";
  for (let n = 1 + next(14); n > 0; n--) text += parts[next(parts.length)];
  written.push(text);
}
for (const name of ["gpt2", "llama3", "qwen3"]) {
  const tokenizer = new Tokenizer(JSON.parse(fs.readFileSync(`families/${name}/tokenizer.json`, "utf8")), {
    tokenizer_class: "PreTrainedTokenizerFast",
    clean_up_tokenization_spaces: false,
  });
  const cases = written.map((text) => ({
    text,
    ids: tokenizer.encode(text, { add_special_tokens: false }).ids,
    framed: tokenizer.encode(text).ids,
  }));
  fs.writeFileSync(`families/${name}/encodings.json`, "[\n" + cases.map((c) => JSON.stringify(c)).join(",\n") + "\n]\n");
}
