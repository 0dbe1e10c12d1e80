// Package runfolder is a run as a folder of files that any tool can read.
//
//	run.yaml                 the resolved config
//	demonstrations.jsonl     scripted episodes of the warm start, turnwise.group/v1
//	tokenizer/               tokenizer.json of a run that started from random weights
//	start/                   config, tokenizer and chat template of the checkpoint that the run started from
//	segments/000123          one finished group each
//	steps/000012.json        manifests: what a step trained and what came out
//	weights/000012.*         weights, for samplers and to go on from
//	optimizer/000010.*       optimizer state to go on from
//	evaluations/000130.json  held-out results of a version
//	control.json             what rollout workers may do now; the one object that is replaced
//	metrics.jsonl            one line a step
//	events.jsonl             what happened, for people
//	policy/                  the final policy, Hugging Face layout
//
// Everything but control.json is written once or appended to. A manifest is what makes a step
// committed: [Folder.Commit] creates it under the step lock after comparing fences, and nothing else
// does.
package runfolder
