package eval

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"leafserve"
	"leafserve/attack"
)

// Settings say how a run is made; with the program they decide its figures. All
// but Arms, Edits and Limit decide each case, so a run with one of those others
// does not use the cases of this one.
type Settings struct {
	Model      string            `json:"model"`
	Encoders   map[string]string `json:"encoders"` // name → SHA-256 of the weights
	Data       string            `json:"data"`
	DataHash   string            `json:"data_hash"`
	Seed       uint64            `json:"seed"`
	Rho        int               `json:"rho"`           // 0: the default of each attack
	Constraint string            `json:"constraint"`    // "" where the claim has its own
	Alphabet   string            `json:"alphabet"`      // characters that searches put in; "" is the default of each claim
	Own        map[string]string `json:"own,omitempty"` // the claim's own settings

	Arms  []string `json:"arms,omitempty"`
	Edits []int    `json:"edits,omitempty"` // strengths, rising; none for undamaged texts only
	Limit int      `json:"limit,omitempty"` // first items only, 0 for all
}

// key leaves out what decides only which cases there are.
func (s Settings) key() Settings {
	s.Arms, s.Edits, s.Limit = nil, nil, 0
	return s
}

// String is one line for people.
func (s Settings) String() string {
	parts := []string{"Model " + s.Model, "data " + s.Data, fmt.Sprint("seed ", s.Seed)}
	if s.Rho > 0 {
		parts = append(parts, fmt.Sprint("ρ ", s.Rho))
	} else {
		parts = append(parts, fmt.Sprintf("ρ %d for leaf and %d for charmer", defaultRho[attack.Leaf], defaultRho[attack.Charmer]))
	}
	if s.Constraint != "" {
		parts = append(parts, "constraint "+s.Constraint)
	}
	if s.Alphabet != "" {
		parts = append(parts, fmt.Sprintf("alphabet %q", s.Alphabet))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Own)) {
		parts = append(parts, name+" "+s.Own[name])
	}
	return strings.Join(parts, ", ") + "."
}

// check refuses what cannot be run.
func (s Settings) check() error {
	rising := true
	for i, k := range s.Edits {
		rising = rising && k >= 1 && k <= leafserve.MaxEdits && (i == 0 || s.Edits[i-1] < k)
	}
	switch {
	case !rising:
		return leafserve.InvalidField("edits", "edits are %v, want rising numbers from 1 to %d", s.Edits, leafserve.MaxEdits)
	case s.Limit < 0:
		return leafserve.InvalidField("limit", "limit is %d, want 0 or more", s.Limit)
	case s.Rho < 0 || s.Rho > leafserve.MaxRho:
		return leafserve.InvalidField("rho", "rho is %d, want 0 to %d", s.Rho, leafserve.MaxRho)
	case !slices.Contains([]string{attack.Strict, attack.NoIncrease, attack.None, ""}, s.Constraint):
		return leafserve.InvalidField("constraint", "constraint is %.64q, want %s, %s or %s", s.Constraint, attack.Strict, attack.NoIncrease, attack.None)
	}
	return nil
}

// Run is an evaluation under way. Its methods are not safe for concurrent use.
type Run struct {
	Settings
	arms      []Arm
	journal   *journal
	progress  func(done, all int)
	done, all int
}

// Start opens the output folder dir. note, if not "", says what was found there.
// Whoever started a run closes it.
func (l Lab) Start(dir string, s Settings, progress func(done, all int)) (r *Run, note string, err error) {
	s.Model, s.Encoders = l.Model, map[string]string{}
	for name, e := range l.Encoders {
		s.Encoders[name] = e.Hash
	}
	arms, err := l.Arms(s.Arms)
	if err != nil {
		return nil, "", err
	}
	if err := s.check(); err != nil {
		return nil, "", err
	}
	j, note, err := openJournal(dir, s.key())
	if err != nil {
		return nil, "", err
	}
	return &Run{Settings: s, arms: arms, journal: j, progress: progress}, note, nil
}

// Close ends the run; finished cases are kept.
func (r *Run) Close() error { return r.journal.close() }

// first cuts items to the limit.
func first[T any](r *Run, items []T) []T {
	if r.Limit > 0 && r.Limit < len(items) {
		return items[:r.Limit]
	}
	return items
}

// step tells how many cases more are finished.
func (r *Run) step(n int) {
	r.done += n
	r.progress(r.done, r.all)
}

// cases gives the value of each case: kept ones from the journal, the others by
// do, which gets the indices of up to batch missing ones at a time and whose
// values are kept at once.
func cases[T any](ctx context.Context, r *Run, ids []string, batch int, do func(ctx context.Context, missing []int) ([]T, error)) ([]T, error) {
	out := make([]T, len(ids))
	var missing []int
	for i, id := range ids {
		ok, err := r.journal.find(id, &out[i])
		if err != nil {
			return nil, err
		}
		if !ok {
			missing = append(missing, i)
		}
	}
	r.step(len(ids) - len(missing))
	for len(missing) > 0 {
		now := missing[:min(batch, len(missing))]
		missing = missing[len(now):]
		values, err := do(ctx, now)
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			out[now[i]] = v
			if err := r.journal.add(ids[now[i]], v); err != nil {
				return nil, err
			}
		}
		r.step(len(now))
	}
	return out, nil
}
