package leafserve

import (
	"fmt"
	"slices"
	"strings"
)

// ResolveCompare is Resolve for POST /compare: it also fills arms and attack,
// so that a resolved request gives the same figures again. attack checks and
// fills an Attack by itself (attack.Resolve); what it has to do with the rest of
// the request is checked here. Encoder is emptied, as the arms decide.
func (r Request) ResolveCompare(m ModelInfo, attack func(Attack) (Attack, error)) (Request, error) {
	if r.N == nil {
		r.N = new(1)
	}
	if r.Encoder == "auto" { // as good a name as any
		r.Encoder = ""
	}
	for _, check := range []func(*Request, ModelInfo) error{
		resolveUnsupported, resolvePrompts, resolveEncoder, resolveArms, resolveAttack(attack), resolveNumbers, resolveSize, resolveSeeds, resolveOutput, resolveQueueing,
	} {
		if err := check(&r, m); err != nil {
			return r, err
		}
	}
	r.Encoder = ""
	return r, nil
}

// CasePrompts gives the prompts of a comparison.
func (r Request) CasePrompts() []string {
	if r.Prompts != nil {
		return r.Prompts
	}
	return []string{r.Prompt}
}

func resolvePrompts(r *Request, m ModelInfo) error {
	if *r.N != 1 {
		return InvalidField("n", "n is %d: a comparison draws each picture once; for several seeds repeat the prompt in prompts", *r.N)
	}
	if r.Prompts == nil {
		return resolveText(r, m)
	}
	switch n := len(r.Prompts); {
	case r.Prompt != "":
		return InvalidField("prompts", "prompt and prompts are both given: keep one")
	case n < 1 || n > MaxComparePrompts:
		return InvalidField("prompts", "prompts has %d entries, want 1 to %d", n, MaxComparePrompts)
	case r.Previews != 0:
		return InvalidField("previews", "previews are for a single prompt: leave them out with prompts")
	}
	for i, text := range r.Prompts {
		if err := CheckPrompt(fmt.Sprintf("prompts[%d]", i), text); err != nil {
			return err
		}
	}
	return CheckText("negative_prompt", r.NegativePrompt)
}

// maxArms is how many encoders one comparison can show.
const maxArms = 4

func resolveArms(r *Request, m ModelInfo) error {
	if len(m.Encoders) < 2 {
		return InvalidField("model", "model %s has one text encoder, %s, and a comparison needs two: add one with `leafserve models attach`, or choose another model",
			m.Name, strings.Join(m.Encoders, ", "))
	}
	if r.Arms == nil { // standard and robust, where there is one
		other := slices.IndexFunc(m.Encoders, func(name string) bool { return name != "standard" })
		r.Arms = []string{"standard", m.Encoders[other]}
	}
	if n := len(r.Arms); n < 2 || n > maxArms {
		return InvalidField("arms", "arms has %d encoders, want 2 to %d of: %s", n, maxArms, strings.Join(m.Encoders, ", "))
	}
	for i, arm := range r.Arms {
		switch {
		case !slices.Contains(m.Encoders, arm):
			return InvalidField("arms", "model %s has no encoder %.64q, it has: %s", m.Name, arm, strings.Join(m.Encoders, ", "))
		case slices.Contains(r.Arms[:i], arm):
			return InvalidField("arms", "arms has %q twice: name different encoders", arm)
		}
	}
	return nil
}

// resolveAttack fills an attack and checks what it has to do with its request.
func resolveAttack(fill func(Attack) (Attack, error)) func(*Request, ModelInfo) error {
	return func(r *Request, m ModelInfo) error {
		var given Attack
		if r.Attack != nil {
			given = *r.Attack
		}
		a, err := fill(given)
		if err != nil {
			return err
		}
		inArms := slices.Contains(r.Arms, a.Against)
		if r.AttackedPerArm && given.Against == "" && a.Against != "" && !inArms {
			a.Against, inArms = r.Arms[0], true
		}
		switch {
		case a.Against != "" && !slices.Contains(m.Encoders, a.Against):
			return InvalidField("attack.against", "model %s has no encoder %.64q, it has: %s", m.Name, a.Against, strings.Join(m.Encoders, ", "))
		case r.AttackedPerArm && a.Against != "" && !inArms:
			return InvalidField("attack.against", "attack.against is %s, which is none of the arms, and attacked_per_arm attacks only those: name one of them", a.Against)
		case a.Method == "manual" && r.Prompts != nil:
			return InvalidField("attack.method", "a manual typo is for a single prompt: send prompt, or choose another method")
		case a.Method == "manual" && a.Prompt == r.Prompt:
			return InvalidField("attack.prompt", "attack.prompt equals prompt: there is no typo to compare")
		}
		r.Attack = &a
		return nil
	}
}
