// Package lexicon knows English words: which letters make one, how common it
// is, and which one a misspelled one was meant to be.
//
// [English] is the dictionary inside the program. It holds two lists, because
// two questions are asked of it. [Dictionary.Has] asks the long list of rare
// and learned words (Webster's Second, "web2") that LEAF's constraint is about:
// an attack may not make a word of it. [Dictionary.Known], and with it
// [Dictionary.Correct], asks the list of words in use with their counts, which
// has the inflected forms that web2 lacks ("cars") and few words that are
// likelier a typo. NOTICE says where the lists are from. [Read] makes a
// dictionary from a list of your own.
//
// [Dictionary.Correct] is the baseline in front of a standard encoder that a
// robust encoder has to beat. It sees words only, not their sense: "a cat and a
// rat" stays when "a cat and a bat" was meant.
package lexicon
