// Package gallery turns decoded tensors into picture files, keeps the files
// and finds them again.
//
// Picture makes 8-bit pixels of what a VAE decodes, Encode writes them as PNG,
// JPEG or WebP together with what made them, and a Store keeps the bytes, in a
// Folder, in memory or at S3:
//
//	img, err := gallery.Picture(decoded) // [3,H,W], −1…1
//	err = gallery.Encode(&file, img, "png", gallery.Parameters(req, seed, hash))
//	store, err := gallery.OpenStore(ctx, "file:///srv/data")
//	err = store.Put(ctx, "01j8-0.png", file.Bytes())
//
// An Index in the same place finds pictures by their CLIP embedding: those that a
// text describes, those like another, and the newest. Any number of processes may
// use a store and its index at once.
//
// Every file says that it is AI made, in the words of the IPTC (XMP,
// DigitalSourceType); leaving the parameters out does not remove that. The
// parameters are the line that A1111's web UI writes, so its tools read them.
package gallery
