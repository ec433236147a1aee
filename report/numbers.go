package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"leafserve"
	"leafserve/stats"
)

// missing is written for a figure that was not measured.
const missing = "–"

// number writes v with a real minus sign, and no sign before zero.
func number(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return missing
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	unsigned, negative := strings.CutPrefix(text, "-")
	if negative && strings.Trim(unsigned, "0.") != "" {
		return "−" + unsigned
	}
	return unsigned
}

// signed is number with a plus sign before what is above zero.
func signed(v float64, digits int) string {
	text := number(v, digits)
	if v > 0 && strings.Trim(text, "0.") != "" && text != missing {
		return "+" + text
	}
	return text
}

// likeness writes two digits, cut off: 0.798 must not read as 0.80, which held.
func likeness(v float64) string { return number(stats.CutOff(v), 2) }

// interval writes an estimate's ends.
func interval(e leafserve.Estimate, digits int) string {
	return number(e.Low, digits) + " to " + number(e.High, digits)
}

// counted writes "1 prompt", "2 prompts".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// percent is the place of v on a plot from low to high, as an SVG length; what
// lies outside is put at the end.
func percent(v, low, high float64) string {
	return strconv.FormatFloat(100*min(1, max(0, (v-low)/(high-low))), 'f', 2, 64) + "%"
}

// scale gives round ends of a plot that shows all values, from 0 where they
// come near it. Without values it is 0 to 1.
func scale(values []float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
	}
	if low > high {
		return 0, 1
	}
	step := stepOf(max(high-low, 0.01))
	low, high = math.Floor(low/step)*step, math.Ceil(high/step)*step
	if low > 0 && low < (high-low)/2 {
		low = 0
	}
	if low == high {
		high += step
	}
	return low, high
}

// stepOf is the smallest of 0.01, 0.02, 0.05, 0.1 … that has room for width in
// five steps.
func stepOf(width float64) float64 {
	for unit := 0.01; ; unit *= 10 {
		for _, step := range []float64{unit, 2 * unit, 5 * unit} {
			if 5*step >= width {
				return step
			}
		}
	}
}

// end writes an end of a scale.
func end(v float64) string {
	return strings.Replace(strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64), "-", "−", 1)
}
