// Package eval measures what typos do to text encoders, and what a robust one
// saves: one function a claim, each over arms of a model.
//
// An [Arm] is what texts go through: an encoder, maybe with a spelling corrector
// in front; or auto, one of two encoders. An attack on an arm is adaptive: its search scores every candidate
// through the whole arm, corrector included, so that arms are compared at their
// own worst typos.
//
// A claim ([ZeroShotTexts], [ZeroShotPictures], [TextFARE], [Generation],
// [Retrieval], [Inversion]) finds damaged texts, case after case, and gives [Series] of figures, one value an item. [Run] keeps
// finished cases in the output folder (a run that was stopped goes on there) and
// [Result] writes means with intervals and paired differences as results.json,
// table.md and plots. Everything is decided by the settings and one seed.
package eval
