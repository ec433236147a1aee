package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"

	"leafserve"
	"leafserve/stats"
)

// Fingerprint gives the SHA-256, in hex, of what was measured: prompts, seeds,
// typos, and every figure to four decimals, as far as another run of the same
// request on the same device agrees. Times, addresses, files, verdicts and the
// order of the cases do not count.
func Fingerprint(cases []leafserve.Case) string {
	lines := make([]string, len(cases))
	for i, c := range cases {
		line, _ := json.Marshal(measuredOf(c)) // strings and finite numbers: cannot fail
		lines[i] = string(line)
	}
	slices.Sort(lines)
	sum := sha256.New()
	for _, line := range lines {
		sum.Write([]byte(line + "\n"))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// caseFigures and armFigures are what Fingerprint reads.
type caseFigures struct {
	Prompt string                `json:"prompt"`
	Seed   uint64                `json:"seed"`
	Typo   string                `json:"typo"`
	Arms   map[string]armFigures `json:"arms"`
}

type armFigures struct {
	Typo    string     `json:"typo"`
	Figures []*float64 `json:"figures"` // null where missing
}

func measuredOf(c leafserve.Case) caseFigures {
	m := caseFigures{c.Prompt, c.Seed, c.Attack.Prompt, map[string]armFigures{}}
	for name, arm := range c.Arms {
		a := armFigures{Typo: arm.Attacked.Prompt}
		for _, f := range []stats.Figure{stats.CleanFit, stats.AttackedFit, stats.Similarity, stats.Pooled, stats.Hidden} {
			a.Figures = append(a.Figures, rounded(f(c, name)))
		}
		m.Arms[name] = a
	}
	return m
}

// rounded keeps four decimals; what is no number is nil.
func rounded(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return new(math.Round(v*1e4)/1e4 + 0) // + 0: no negative zero
}
