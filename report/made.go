package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"leafserve"
)

// fewPrompts is the number of prompts under which a report says that they are
// few.
const fewPrompts = 200

// fact is a line of how the report was made; a code is a hash.
type fact struct{ Name, Code, Text string }

func (v view) facts() []fact {
	r := v.Request
	facts := []fact{{"Model", "", v.Model.Name + size(r)}}
	for _, a := range v.Arms {
		if hash := v.Encoders[a.Name]; hash != "" {
			facts = append(facts, fact{a.Label + " encoder", "sha256 " + hash, ""})
		}
	}
	made := fmt.Sprintf("leafserve %s, %s UTC, in %s", v.Version, v.Made.UTC().Format("2 January 2006, 15:04"), took(v.Took))
	return append(facts,
		fact{"Pictures", "", v.pictureWords()},
		fact{"Typo", "", v.typoWords()},
		fact{"Made by", "", made},
		fact{"Figures", "sha256 " + Fingerprint(v.Data.Cases), ": a second run must give the same"})
}

func size(r leafserve.Request) string {
	if r.Width == nil || r.Height == nil {
		return ""
	}
	return fmt.Sprintf(", %d × %d pixels", *r.Width, *r.Height)
}

// took rounds a duration to what is worth telling.
func took(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// pictureWords tells how pictures were drawn, as far as the request says.
func (v view) pictureWords() string {
	r := v.Request
	var parts []string
	switch {
	case len(r.Seeds) > 1:
		parts = append(parts, "a seed for each prompt (in request.json)")
	case len(r.Seeds) == 1:
		parts = append(parts, fmt.Sprintf("seed %d", r.Seeds[0]))
	case r.Seed != nil && v.Single():
		parts = append(parts, fmt.Sprintf("seed %d", *r.Seed))
	case r.Seed != nil:
		parts = append(parts, fmt.Sprintf("seed %d and one more for each further prompt", *r.Seed))
	}
	if r.RNG != "" {
		parts = append(parts, r.RNG+" noise")
	}
	if r.Scheduler != "" {
		parts = append(parts, r.Scheduler)
	}
	if r.Steps != nil {
		parts = append(parts, counted(*r.Steps, "step", "steps"))
	}
	if r.GuidanceScale != nil {
		parts = append(parts, fmt.Sprintf("guidance %g", *r.GuidanceScale))
	}
	if v.Device != "" {
		parts = append(parts, v.Device)
	}
	return strings.Join(parts, ", ")
}

// methodNames are what attacks are called; others go by their own name.
var methodNames = map[string]string{
	"leaf": "LEAF", "charmer": "Charmer", "keyboard": "neighbouring keys", "swap": "swapped letters",
	"homoglyph": "letters that look alike", "random": "random edits", "manual": "typed by hand",
}

// typoWords tells how the typos were found, as far as the request says.
func (v view) typoWords() string {
	a := v.attack()
	name := methodNames[a.Method]
	if name == "" {
		name = a.Method
	}
	if a.Method == "manual" {
		return name
	}
	parts := []string{name, counted(a.Edits, "edit", "edits")}
	for _, p := range []struct {
		given bool
		text  string
	}{
		{a.Rho > 0, fmt.Sprintf("ρ = %d", a.Rho)},
		{a.Constraint != "", "constraint " + a.Constraint},
		{a.Objective != "", "objective " + a.Objective},
		{a.Against != "" && !v.Request.AttackedPerArm, "against " + a.Against},
	} {
		if p.given {
			parts = append(parts, p.text)
		}
	}
	if a.Seed != nil {
		parts = append(parts, fmt.Sprintf("seed %d", *a.Seed))
	}
	if v.Request.AttackedPerArm && a.Against != "" {
		return strings.Join(append(parts, "each encoder its own worst typo"), ", ")
	}
	return strings.Join(append(parts, "one typo for all encoders"), ", ")
}

func (v view) attack() leafserve.Attack {
	if v.Request.Attack == nil {
		return leafserve.Attack{Method: v.Data.Cases[0].Attack.Method}
	}
	return *v.Request.Attack
}

// limits says what the figures do not show.
func (v view) limits() []string {
	var limits []string
	switch n := len(v.Data.Cases); {
	case n == 1:
		limits = append(limits, "One prompt is an example: it says nothing about others. Compare a list of at least 200 before you rely on a difference.")
	case n < fewPrompts:
		limits = append(limits, fmt.Sprintf("%d prompts are few: the intervals say how few. Run at least %d before you rely on a difference.", n, fewPrompts))
	}
	a, chosen := v.attack(), "All typos were chosen"
	if v.Single() {
		chosen = "The typo was chosen"
	}
	switch {
	case a.Method == "manual":
		limits = append(limits, "The typo was typed by hand. One that a search finds does more harm.")
	case a.Against == "":
		limits = append(limits, "The typos were not chosen for the harm they do. Those that a search finds (methods leaf and charmer) do more.")
	case v.Request.AttackedPerArm:
		limits = append(limits, "Each encoder met the typo chosen against it, so they did not read the same text.")
	default:
		limits = append(limits, fmt.Sprintf("%s against the %s encoder. One chosen against another encoder hurts that one more: run again with another attack.against, or with attacked_per_arm.", chosen, a.Against))
	}
	if !v.Judged {
		return append(limits, "No picture was judged, as this model has no CLIP beside it: drift says how far the reading of the prompt moved, not what that does to the picture.")
	}
	return append(limits,
		"Likeness and prompt fit are measured by a CLIP model, not by people.",
		"Likeness compares an encoder’s two pictures with each other: both may be bad. Prompt fit says whether they show what was asked for.")
}

// About is the line at the top.
func (v view) About() string {
	typos := "own typo"
	if a := v.attack(); a.Method != "manual" && a.Edits > 0 {
		typos = counted(a.Edits, "wrong letter", "wrong letters") + " each"
		if v.Single() {
			typos = counted(a.Edits, "wrong letter", "wrong letters")
		}
	}
	return strings.Join([]string{v.Model.Name, counted(len(v.Data.Cases), "prompt", "prompts"), typos, v.Made.UTC().Format("2 January 2006")}, " · ")
}

// Title is the document's.
func (v view) Title() string {
	names := make([]string, len(v.Arms))
	for i, a := range v.Arms {
		names[i] = a.Name
	}
	last := len(names) - 1
	return fmt.Sprintf("Typo report: %s, %s and %s encoder", counted(len(v.Data.Cases), "prompt", "prompts"), strings.Join(names[:last], ", "), names[last])
}

// requestJSON writes what gives the same figures again: without what only says
// how and where to answer.
func requestJSON(r leafserve.Request) string {
	r.Response, r.Previews, r.Priority, r.WebhookURL = "", 0, 0, ""
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil { // scheduler_config holds what JSON cannot: no request from outside does
		return err.Error()
	}
	return strings.TrimSuffix(out.String(), "\n")
}
