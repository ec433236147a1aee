package leafserve

// Attack says how a prompt is to be damaged: the "attack" object of POST
// /compare and POST /attack. Zero values stand for the defaults.
type Attack struct {
	Method     string  `json:"method,omitempty"`     // leaf (default), charmer, random, keyboard, swap, homoglyph, manual
	Edits      int     `json:"edits,omitempty"`      // 1…MaxEdits, one after the other; default 1
	Rho        int     `json:"rho,omitempty"`        // ρ of leaf: slots and symbols tried a round; default 50. charmer: slots kept; default 20
	Constraint string  `json:"constraint,omitempty"` // strict, no-increase, none; default strict for leaf and charmer, no-increase for the others
	Objective  string  `json:"objective,omitempty"`  // pooled (default), cosine, hidden: what leaf and charmer drive apart
	Against    string  `json:"against,omitempty"`    // the encoder that leaf and charmer read; default standard
	Seed       *uint64 `json:"seed,omitempty"`       // of every random choice; random, returned
	Prompt     string  `json:"prompt,omitempty"`     // manual only: the damaged prompt
}

// Limits of an attack and of a comparison.
const (
	MaxEdits          = 8
	MaxRho            = 200
	MaxComparePrompts = 256
)

// AttackResult is what an attack found.
type AttackResult struct {
	Attack     Attack           `json:"-"` // resolved, as the request holds it
	Method     string           `json:"method"`
	Prompt     string           `json:"prompt"` // damaged; equal to the clean one where no edit is valid
	Edits      []Edit           `json:"edits"`  // in order, never null
	Diff       []DiffPart       `json:"diff"`   // clean against damaged, in code points
	Candidates int              `json:"candidates"`
	MS         float64          `json:"ms"`
	Tokens     TokenPair        `json:"tokens"`
	Drift      map[string]Drift `json:"drift"` // by encoder
}

// Edit is one change of a text, counted in code points of the text before it.
type Edit struct {
	Op   string `json:"op"` // insert, delete, replace, swap
	At   int    `json:"at"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// DiffPart is a run of characters that stayed ("same"), went ("del") or came ("ins").
type DiffPart struct {
	T string `json:"t"`
	S string `json:"s"`
}

// TokenPair shows what the tokenizer makes of a prompt before and after.
type TokenPair struct {
	Clean    []Token `json:"clean"`
	Attacked []Token `json:"attacked"`
}

// Drift tells how far an encoder moved between the clean and the damaged
// prompt: 1 − cosine, 0 for no move, and the L2 distance. Pooled is the
// projected EOS state (without a projection, the EOS state); hidden the states
// that the UNet reads, token by token, aligned.
type Drift struct {
	Pooled   float64 `json:"pooled"`
	Hidden   float64 `json:"hidden"`
	PooledL2 float64 `json:"pooled_l2"`
	HiddenL2 float64 `json:"hidden_l2"`
}

// Comparison is the result of POST /compare: of one prompt its Case, of a list
// the cases and their summary.
type Comparison struct {
	*Case            // one prompt
	Cases   []Case   `json:"cases,omitempty"`   // a list, worst for the robust encoder first
	Summary *Summary `json:"summary,omitempty"` // of a list
	Montage string   `json:"montage_url"`
	Report  string   `json:"report_url"`
}

// All gives the cases, of a single prompt its one.
func (c Comparison) All() []Case {
	if c.Case != nil {
		return []Case{*c.Case}
	}
	return c.Cases
}

// Case is the comparison of one prompt.
type Case struct {
	Prompt  string         `json:"prompt"`
	Seed    uint64         `json:"seed"`
	Attack  AttackResult   `json:"attack"`
	Arms    map[string]Arm `json:"arms"` // by encoder
	Verdict Verdict        `json:"verdict"`
}

// Arm is what one encoder made of the clean and of the damaged prompt, from the
// same noise.
type Arm struct {
	Clean    Cell `json:"clean"`
	Attacked Cell `json:"attacked"`
}

// Cell is one picture of a comparison and its figures; a figure is missing
// where the model has no CLIP beside it that could judge.
type Cell struct {
	Image      Image    `json:"image"`
	Prompt     string   `json:"prompt"`               // that was drawn
	ClipScore  *float64 `json:"clip_score,omitempty"` // max(cosine, 0) of picture and clean prompt, 0…1 (Hessel et al. 2021, without its factor 2.5)
	Similarity *float64 `json:"similarity,omitempty"` // attacked only: cosine to the arm's clean picture, −1…1
	Drift      *Drift   `json:"drift,omitempty"`      // attacked only, where the arm has a typo of its own
}

// HeldAt is the similarity from which an arm counts as having held.
const HeldAt = 0.8

// Verdict says in a sentence how a comparison went. Tone is good, bad or "".
type Verdict struct {
	Tone string `json:"tone"`
	Tag  string `json:"tag"`
	Text string `json:"text"`
}

// Summary gathers a list of cases.
type Summary struct {
	Cases   int                   `json:"cases"`
	Arms    map[string]ArmSummary `json:"arms"`
	Gain    map[string]Estimate   `json:"gain"`     // robust − standard, paired, by figure: clean, attacked, similarity, pooled, hidden
	Held    map[string]int        `json:"held"`     // cases with similarity ≥ HeldAt, by arm
	WinRate *Estimate             `json:"win_rate"` // share of cases where robust has the higher similarity, ties half; its interval is Wilson's
	Verdict Verdict               `json:"verdict"`
}

// ArmSummary has the means of one arm over all cases.
type ArmSummary struct {
	Clean      Estimate `json:"clean"`    // ClipScore
	Attacked   Estimate `json:"attacked"` // ClipScore
	Similarity Estimate `json:"similarity"`
	Pooled     Estimate `json:"pooled"` // drift
	Hidden     Estimate `json:"hidden"` // drift
}

// Estimate is a mean with its 95 % bootstrap interval.
type Estimate struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	N    int     `json:"n"`
}

// Health tells what the encoder will think of a prompt before a picture is made.
type Health struct {
	Tokens    int          `json:"tokens"`    // used, BOS and EOS included
	Limit     int          `json:"limit"`     // the encoder's context
	Words     []HealthWord `json:"words"`     // those that fall apart or look misspelled, in order; never null
	Fragility float64      `json:"fragility"` // expected pooled drift under one random typo, 0…1
	Damaged   bool         `json:"damaged"`   // the prompt looks misspelled: encoder auto takes robust
}

// HealthWord is a word worth a second look.
type HealthWord struct {
	Word       string `json:"word"`
	Pieces     int    `json:"pieces"` // tokens it falls into
	Misspelled bool   `json:"misspelled"`
	Suggestion string `json:"suggestion,omitempty"`
}
