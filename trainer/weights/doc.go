// Package weights reads and writes a network's weights in Hugging Face's layout: model.safetensors, or shards with
// their index, in F32, BF16 or F16. https://github.com/huggingface/safetensors
//
// Open maps a folder's files, checks every header, and Read converts one tensor, or a piece of one, into the caller's
// float32 slice; pages that were read are given back, so that loading never holds two copies. Save asks a callback for
// one piece after the other and replaces a folder's files so that a reader sees the old weights, the new ones or an
// error, never a mixture. Encode and Decode do the same for one file that is not in a folder.
//
// It refuses headers that do not describe their file exactly, dtypes it does not convert, and values that are not
// finite numbers. It knows nothing of the network: which tensors there must be and of what shape is the caller's to check.
package weights
