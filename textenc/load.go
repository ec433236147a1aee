package textenc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxID bounds vocabulary ids, so that a damaged file cannot ask for gigabytes.
const maxID = 1<<20 - 1

// The files of a tokenizer folder, in transformers' layout.
const (
	vocabFile   = "vocab.json"
	mergesFile  = "merges.txt"
	configFile  = "tokenizer_config.json"
	specialFile = "special_tokens_map.json"
)

// LoadTokenizer reads a tokenizer folder: vocab.json and merges.txt, and where
// there are any, tokenizer_config.json and special_tokens_map.json. An error
// names the file, the line if there is one, and what is wrong.
func LoadTokenizer(dir string) (*Tokenizer, error) {
	t, err := loadTokenizer(dir)
	if err != nil {
		return nil, fmt.Errorf("tokenizer in %s: %w", dir, err)
	}
	return t, nil
}

func loadTokenizer(dir string) (*Tokenizer, error) {
	cfg, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	vocab, err := openNeeded(dir, vocabFile)
	if err != nil {
		return nil, err
	}
	defer vocab.Close()
	merges, err := openNeeded(dir, mergesFile)
	if err != nil {
		return nil, err
	}
	defer merges.Close()
	return NewTokenizer(vocab, merges, cfg)
}

// openNeeded opens a file that a tokenizer cannot do without.
func openNeeded(dir, name string) (*os.File, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing; copy it from the model's tokenizer folder", name)
	}
	return f, err
}

// NewTokenizer makes a tokenizer from the contents of vocab.json and merges.txt,
// which errors name so. It does not close the readers.
func NewTokenizer(vocab, merges io.Reader, cfg TokenizerConfig) (*Tokenizer, error) {
	ids, err := readVocab(vocab)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{}
	if t.pieces, err = invert(ids); err != nil {
		return nil, err
	}
	if err := t.bpe.setBytes(ids); err != nil {
		return nil, err
	}
	if t.merges, err = readMerges(merges, ids); err != nil {
		return nil, err
	}
	t.setOnward(len(t.pieces))
	if err := t.configure(ids, cfg); err != nil {
		return nil, err
	}
	return t, nil
}

// configure finds the special tokens.
func (t *Tokenizer) configure(ids map[string]int, cfg TokenizerConfig) error {
	var bos, eos, pad bool
	if cfg.Pad == "" {
		cfg.Pad = eosPiece
	}
	t.bos, bos = ids[bosPiece]
	t.eos, eos = ids[eosPiece]
	t.pad, pad = ids[cfg.Pad]
	switch {
	case !bos || !eos:
		return fmt.Errorf("%s has no %s or no %s: this is not a CLIP vocabulary", vocabFile, bosPiece, eosPiece)
	case !pad:
		return fmt.Errorf("%s has no %q, which %s or %s gives as pad_token", vocabFile, cfg.Pad, configFile, specialFile)
	case cfg.Context < 0 || cfg.Context == 1:
		return fmt.Errorf("%s: model_max_length is %d, need 2 or more", configFile, cfg.Context)
	}
	t.context = cfg.Context
	if t.context == 0 {
		t.context = defaultContext
	}
	t.folded = []special{{bosPiece, t.bos}, {eosPiece, t.eos}}
	switch {
	case t.pad == t.bos || t.pad == t.eos:
	case cfg.PadNormalized:
		t.folded = append(t.folded, special{normalize(cfg.Pad), t.pad})
	default:
		t.raw = []special{{cfg.Pad, t.pad}}
	}
	return nil
}

// readVocab reads {"piece": id}.
func readVocab(r io.Reader) (map[string]int, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", vocabFile, err)
	}
	var ids map[string]int
	return ids, unmarshal(vocabFile, data, &ids)
}

// invert lists the pieces by id.
func invert(ids map[string]int) ([]string, error) {
	pieces := make([]string, 0, len(ids))
	for piece, id := range ids {
		if id < 0 || id > maxID {
			return nil, fmt.Errorf("%s: id %d of %q is not in 0…%d", vocabFile, id, piece, maxID)
		}
		for id >= len(pieces) {
			pieces = append(pieces, "")
		}
		if pieces[id] != "" {
			return nil, fmt.Errorf("%s: %q and %q have the same id %d", vocabFile, pieces[id], piece, id)
		}
		pieces[id] = piece
	}
	return pieces, nil
}

// setBytes finds the pieces of single bytes.
func (b *bpe) setBytes(ids map[string]int) error {
	for i, r := range byteAlphabet() {
		inside, ok := ids[string(r)]
		last, okLast := ids[string(r)+wordEnd]
		if !ok || !okLast {
			return fmt.Errorf("%s has no %q or no %q, so byte 0x%02x cannot be encoded", vocabFile, string(r), string(r)+wordEnd, i)
		}
		b.inside[i], b.last[i] = int32(inside), int32(last)
	}
	return nil
}

// readMerges reads merges.txt: a version line, then two pieces a line, the
// merge to do first at the top.
func readMerges(r io.Reader, ids map[string]int) (map[uint64]merge, error) {
	merges := make(map[uint64]merge, len(ids))
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || n == 1 && strings.HasPrefix(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("%s:%d: %q is not two pieces with a space between", mergesFile, n, line)
		}
		for _, piece := range []string{left, right, left + right} {
			if _, ok := ids[piece]; !ok {
				return nil, fmt.Errorf("%s:%d: %q is not in %s; are the two files from the same model?", mergesFile, n, piece, vocabFile)
			}
		}
		merges[pairKey(int32(ids[left]), int32(ids[right]))] = merge{int32(n), int32(ids[left+right])}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", mergesFile, err)
	}
	return merges, nil
}

// byteAlphabet gives GPT-2's printable stand-in for each byte: itself if it is a
// visible Latin-1 character, else the next rune from U+0100 on.
func byteAlphabet() [256]rune {
	var out [256]rune
	next := rune(0x100)
	for i := range out {
		out[i] = rune(i)
		if i < '!' || '~' < i && i < '¡' || i == 0xAD {
			out[i] = next
			next++
		}
	}
	return out
}

// readConfig reads the two optional files.
func readConfig(dir string) (TokenizerConfig, error) {
	var config struct {
		ModelMaxLength float64         `json:"model_max_length"`
		PadToken       addedToken      `json:"pad_token"`
		AddedTokens    json.RawMessage `json:"added_tokens_decoder"`
	}
	var special struct {
		PadToken addedToken `json:"pad_token"`
	}
	if err := readOptional(dir, configFile, &config); err != nil {
		return TokenizerConfig{}, err
	}
	if err := readOptional(dir, specialFile, &special); err != nil {
		return TokenizerConfig{}, err
	}
	pad := config.PadToken
	// As transformers has it: the older file counts unless the newer one lists
	// the added tokens. SD2.x's two files name different pad tokens.
	if config.AddedTokens == nil && special.PadToken.Content != "" {
		pad = special.PadToken
	}
	cfg := TokenizerConfig{Pad: pad.Content, PadNormalized: pad.Normalized}
	if config.ModelMaxLength < maxID { // transformers writes 1e30 for "no limit"
		cfg.Context = int(config.ModelMaxLength)
	}
	return cfg, nil
}

// addedToken is a token written as a string or as an object.
type addedToken struct {
	Content    string `json:"content"`
	Normalized bool   `json:"normalized"`
}

// UnmarshalJSON reads either form.
func (a *addedToken) UnmarshalJSON(data []byte) error {
	type object addedToken
	into := any(&a.Content)
	if data[0] == '{' {
		into = (*object)(a)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("a token is a string or an object with its content: %v", err)
	}
	return nil
}

// readOptional unmarshals a file into v, if there is one.
func readOptional(dir, name string, v any) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return unmarshal(name, data, v)
}

// unmarshal is json.Unmarshal with the file, and the line where it is known, in
// its error.
func unmarshal(name string, data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		name = atLine(name, data[:syntax.Offset])
	case errors.As(err, &kind):
		name = atLine(name, data[:kind.Offset])
	}
	return fmt.Errorf("%s: not the JSON that a tokenizer has: %w", name, err)
}

// atLine gives name:line for the place after read.
func atLine(name string, read []byte) string {
	return fmt.Sprintf("%s:%d", name, 1+bytes.Count(read, []byte("\n")))
}
