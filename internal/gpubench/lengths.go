package gpubench

import (
	"fmt"
	"strconv"
	"strings"
)

// mostTokens of one step is far above what a GPU holds.
const mostTokens = 1 << 24

// ParseLengths reads the lengths of sequences: "32x1024" are 32 of 1024 tokens, "4x300,17" are five.
func ParseLengths(text string) ([]int, error) {
	var all []int
	total := 0
	for item := range strings.SplitSeq(text, ",") {
		number, length, several := strings.Cut(item, "x")
		if !several {
			number, length = "1", item
		}
		n, err := strconv.Atoi(number)
		each, err2 := strconv.Atoi(length)
		if err != nil || err2 != nil || n < 1 || each < 2 || n > mostTokens || each > mostTokens || total+n*each > mostTokens {
			return nil, fmt.Errorf("lengths %q: %q must be a length of at least 2, or a number, x and a length; %d tokens at most in all", text, item, mostTokens)
		}
		total += n * each
		for range n {
			all = append(all, each)
		}
	}
	return all, nil
}

// Cut divides lengths, in order, into runs of at most so many tokens; a longer one is a run by itself.
func Cut(lengths []int, tokens int) [][]int {
	var all [][]int
	from, sum := 0, 0
	for i, n := range lengths {
		if i > from && sum+n > tokens {
			all = append(all, lengths[from:i])
			from, sum = i, 0
		}
		sum += n
	}
	if from < len(lengths) {
		all = append(all, lengths[from:])
	}
	return all
}
