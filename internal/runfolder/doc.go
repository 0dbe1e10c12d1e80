// Package runfolder is a run as a folder of files that any tool can read.
//
//	run.yaml                 the resolved config
//	configs/000001.yaml      what the config was changed to, by revision
//	fork.json, forked/       where a fork's first steps come from, and the configs that made them
//	demonstrations.jsonl     scripted episodes of the warm start, turnwise.group/v1
//	tokenizer/               tokenizer.json of a run that started from random weights
//	start/                   config, tokenizer and chat template of the checkpoint that the run started from
//	segments/000123          one finished group each
//	turns/000004.log         finished turns of one tenure of a rollout loop
//	steps/000012.json        manifests: what a step trained and what came out
//	weights/000012.*         weights, for samplers and to go on from
//	optimizer/000010.*       optimizer state to go on from
//	evaluations/000130.json  held-out results of a version
//	corrupt/                 objects that were not what they should be, set aside and made again
//	control.json             what rollout workers may do now; replaced as a whole, as is fence.json
//	metrics.jsonl            one line a step
//	events.jsonl             what happened, for people
//	policy/                  the final policy, Hugging Face layout
//
// Everything but control.json and fence.json is written once or appended to. A manifest is what makes a step
// committed: [Folder.Commit] creates it under the step lock after comparing fences. The first steps of a fork are
// committed by the run that it comes from, and adopted before any learner begins.
package runfolder
