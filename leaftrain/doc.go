// Package leaftrain finetunes a CLIP text encoder so that edits of characters
// move it little: LEAF (Abad Rocamora et al. 2025, "Robustness in Both Domains:
// CLIP Needs a Robust Text Encoder"), on the runtime that serves.
//
//	captions → attack against the student → lessons: what the frozen teacher makes
//	of the clean caption is what the student should make of the damaged one →
//	gradients → AdamW
//
// A Config is a recipe, and Preset gives the paper's. New makes a Trainer, whose
// Step is one step of the optimiser:
//
//	trainer, err := leaftrain.New(student, teacher, config)
//	for trainer.Steps() < config.Steps {
//		batch, err := source.Next(ctx, config.Batch)
//		metrics, err := trainer.Step(ctx, batch)
//	}
//
// All that is random follows from the seed and the number of the step, so a run
// that is stopped and goes on from its State ends, to the bit, at the weights of
// one that was not.
//
// Beyond the paper, which trains the pooled embedding only, the states that a
// UNet reads can be trained too (Loss.Words, Loss.Padding), captions can be
// damaged in several ways (Config.Threats), and clean captions and the empty
// prompt can be held where they are.
package leaftrain
