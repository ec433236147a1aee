// Package invert reconstructs texts from their CLIP embeddings: how much of a
// prompt does an embedding give away, and is the embedding of a robust encoder
// easier to read?
//
//	v, err := invert.New(rt, "model/text_encoder", tokenizer, options)
//	targets, err := v.Embed(ctx, "a ghost on a yellow background")
//	found, err := v.Invert(ctx, targets, invert.DefaultConfig())
//	fmt.Println(found[0].Text, found[0].Cosine)
//
// The search is PEZ ("hard prompts made easy", Wen et al. 2023): rows of numbers
// follow the gradient of the cosine, but the gradient is taken at the nearest
// rows of the token embedding, which are real tokens. All is deterministic in a
// target's seed, on one machine: rounding differs between processors, and the
// nearest row turns the smallest difference into another path.
//
// Compare and BLEU measure a reconstruction.
package invert
