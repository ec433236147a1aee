package httpapi

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// negotiate picks the media type of offers that the Accept headers rank highest
// (RFC 9110, 12.5.1), "" when they allow none. Between equals the one that is
// named more exactly wins, then the earlier offer.
func negotiate(header http.Header, offers ...string) string {
	accept := strings.Join(header.Values("Accept"), ",")
	if accept == "" {
		return offers[0]
	}
	best, bestWeight, bestExact := "", 0.0, 0
	for _, offer := range offers {
		weight, exact := weigh(accept, offer)
		if weight > bestWeight || weight == bestWeight && exact > bestExact {
			best, bestWeight, bestExact = offer, weight, exact
		}
	}
	return best
}

// weigh gives the weight (0…1) of the range in accept that names offer most
// exactly: 3 the type itself, 2 its family, 1 anything, 0 not at all.
func weigh(accept, offer string) (weight float64, exact int) {
	family, _, _ := strings.Cut(offer, "/")
	levels := map[string]int{offer: 3, family + "/*": 2, "*/*": 1}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil || levels[media] <= exact {
			continue
		}
		exact, weight = levels[media], 1
		if q, ok := params["q"]; ok {
			weight, _ = strconv.ParseFloat(q, 64) // unreadable counts as 0
		}
	}
	if weight <= 0 {
		return 0, 0
	}
	return weight, exact
}

// preference is what a Prefer header asks for (RFC 7240).
type preference struct {
	wait    time.Duration // at most; 0 not at all, forever to the end
	applied string        // for Preference-Applied, "" for none
}

// forever is the wait of a client that asks for none in particular.
const forever time.Duration = -1

// preferences reads respond-async and wait=N. Both together wait N seconds;
// what cannot be read is ignored, as the RFC wants.
func preferences(header http.Header) preference {
	wait, async := forever, false
	var applied []string
	for part := range strings.SplitSeq(strings.Join(header.Values("Prefer"), ","), ",") {
		token, _, _ := strings.Cut(part, ";")
		name, value, _ := strings.Cut(token, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "respond-async":
			async = true
			applied = append(applied, "respond-async")
		case "wait":
			seconds, err := strconv.ParseUint(strings.Trim(value, ` "`), 10, 31)
			if err != nil || wait != forever {
				continue
			}
			wait = time.Duration(seconds) * time.Second
			applied = append(applied, "wait="+strconv.FormatUint(seconds, 10))
		}
	}
	if async && wait == forever {
		wait = 0
	}
	return preference{wait: wait, applied: strings.Join(applied, ", ")}
}
