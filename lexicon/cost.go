package lexicon

import "strings"

// Costs of a typo, in nats: how much less likely it is than an even rarer word.
// A letter that was dropped, doubled or swapped leaves one way to be wrong; one
// that was put in or replaced could have been any of 26, fewer if it is a key
// beside the right one.
const (
	costSlip  = 2.0 // dropped, doubled, swapped, or a sign that is no letter
	costNear  = 3.0 // replaced by a key beside
	costOther = 5.0 // replaced or put in
	costFirst = 0.5 // more, at the first letter: people look at it
)

// Beside gives the lower-case letter keys that touch the key of c on a QWERTY
// keyboard, "" where c is no lower-case letter of it.
func Beside(c rune) string {
	if c < 'a' || c > 'z' {
		return ""
	}
	return beside[c-'a']
}

var beside = [26]string{
	"qwsz", "vghn", "xdfv", "serfcx", "wsdr", "drtgvc", "ftyhbv", "gyujnb", "ujko", "huikmn", "jiolm", "kop", "njk",
	"bhjm", "iklp", "ol", "wa", "edft", "awedxz", "rfgy", "yhji", "cfgb", "qase", "zsdc", "tghu", "asx",
}

// typoCost gives the cost of the cheapest way from meant to typed.
func typoCost(typed, meant string) float32 {
	width := len(meant) + 1
	cost := make([]float32, (len(typed)+1)*width)
	for i := range len(typed) + 1 {
		for j := range width {
			at := i*width + j
			switch {
			case i == 0 && j == 0:
				continue
			case i == 0:
				cost[at] = cost[at-1] + dropCost(meant, j-1)
				continue
			case j == 0:
				cost[at] = cost[at-width] + extraCost(typed, i-1)
				continue
			}
			c := cost[at-width-1] + replaceCost(typed[i-1], meant[j-1], i == 1 && j == 1)
			c = min(c, cost[at-1]+dropCost(meant, j-1), cost[at-width]+extraCost(typed, i-1))
			if i > 1 && j > 1 && typed[i-1] == meant[j-2] && typed[i-2] == meant[j-1] {
				c = min(c, cost[at-2*width-2]+costSlip+first(i == 2))
			}
			cost[at] = c
		}
	}
	return cost[len(cost)-1]
}

func first(is bool) float32 {
	if is {
		return costFirst
	}
	return 0
}

// dropCost is of meant[j] not being typed.
func dropCost(meant string, j int) float32 { return costSlip + first(j == 0) }

// extraCost is of typed[i] being typed for nothing.
func extraCost(typed string, i int) float32 {
	c := typed[i]
	doubled := i > 0 && typed[i-1] == c || i+1 < len(typed) && typed[i+1] == c
	if doubled || c < 'a' || c > 'z' {
		return costSlip
	}
	return costOther + first(i == 0)
}

func replaceCost(typed, meant byte, isFirst bool) float32 {
	switch {
	case typed == meant:
		return 0
	case typed < 'a' || typed > 'z':
		return costSlip
	case strings.IndexByte(Beside(rune(meant)), typed) >= 0:
		return costNear + first(isFirst)
	}
	return costOther + first(isFirst)
}
