// Package captions streams the captions that an encoder is trained on, shuffled,
// for ever. Open takes files, and Next gives batches:
//
//	source, err := captions.Open(captions.Config{Files: []string{"shards/{0000..0127}.tar"}, Seed: 1})
//	defer source.Close()
//	batch, err := source.Next(ctx, 128)
//
// A file may be
//
//	.txt, .text       a caption a line
//	.jsonl, .ndjson   a JSON object a line, the caption under a key
//	.csv              a header, then a caption in a column of each row
//	.tar              a web-dataset shard: each member *.txt is a caption, pictures are not read
//
// and any of these compressed: .gz after the name, or .tgz. A name may be a glob
// (*, ?, [a-z]) or a list in braces ({0000..0127}, {train,val}).
//
// Each epoch reads the files in an order of its own, one after the other, through
// a shuffle buffer: what Next gives is drawn at random from the next Buffer
// captions. Memory is bounded by that buffer, not by the files. The order follows
// from seed and epoch, so a Position of two numbers is all that a run need keep,
// and Seek goes back to it exactly, as long as the files are the same.
//
// A caption is at most 64 KiB of UTF-8 without NUL bytes. Blanks around it are
// taken off, and empty ones are passed over. What is wrong with a file is an error
// of kind Invalid that names file and line, or file and member; Open reads as far
// as the first caption of every file, Next finds the rest. Nothing is passed over
// that is not empty.
package captions
