// Package data reads what evaluations measure on: pictures with captions,
// classes, prompts and labelled texts, from a folder or from the program itself.
//
// A data folder has
//
//	captions.jsonl   {"image":"images/000.webp","text":"a red cat","class":"cat"} a line
//	classes.jsonl    {"name":"cat","prompt":"a cat"} a line, where pictures have classes
//	prompts.jsonl    {"prompt":"a red cat","seed":3000} a line, to make pictures from
//
// of which an evaluation reads only what it needs. [Default] is such a folder:
// the 345 compositions of object, style and background that the training of
// leaf-emoji-64 left out (Noto Emoji, Twemoji, Fluent Emoji; leaf-emoji-64/NOTICE
// has the licences). make.py made it.
//
// What is wrong with a file is an error of kind Invalid that names file and line.
package data
