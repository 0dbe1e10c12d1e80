package devicetest

import (
	"math"
	"sort"
)

// softmax are the probabilities of logits times an inverse temperature, their logarithms and the entropy.
func softmax(logits []float64, inverse float64) (p, logs []float64, entropy float64) {
	highest := math.Inf(-1)
	for _, z := range logits {
		highest = max(highest, z*inverse)
	}
	sum := 0.0
	for _, z := range logits {
		sum += math.Exp(z*inverse - highest)
	}
	p, logs = make([]float64, len(logits)), make([]float64, len(logits))
	for i, z := range logits {
		logs[i] = z*inverse - highest - math.Log(sum)
		p[i] = math.Exp(logs[i])
		entropy -= p[i] * logs[i]
	}
	return p, logs, entropy
}

// score is the log-probability of each row's target and the entropy of its distribution, given logits and
// their magnitudes.
func score(logits estimate, targets []int32, vocabulary int, inverse float64) (logProbs, entropies estimate) {
	n := len(targets)
	logProbs, entropies = newEstimate(n, max(vocabulary, logits.terms)), newEstimate(n, max(vocabulary, logits.terms))
	for i, target := range targets {
		row := part(logits.value, i, i+1, vocabulary)
		p, logs, entropy := softmax(row, inverse)
		// An error of e in each logit moves a log-probability by at most 2e, and the entropy by Σ p|log p + H|·e.
		size := 1.0
		for j := range row {
			size = max(size, logits.magnitude[i*vocabulary+j]*inverse)
		}
		moved := 1.0
		for j := range p {
			moved += p[j] * math.Abs(logs[j]+entropy)
		}
		logProbs.value[i], logProbs.magnitude[i] = logs[target], 2*size
		entropies.value[i], entropies.magnitude[i] = entropy, (1+entropy)*size+moved*size
	}
	return logProbs, entropies
}

// scoreBack is the gradient of the logits: of a row with target t, inverse·(d·(1{j=t} − p_j) −
// e·p_j·(log p_j + H)), where d and e are the gradients of log-probability and entropy. The second
// result bounds it term by term.
func scoreBack(logits estimate, targets []int32, dLogProbs, dEntropies []float64, vocabulary int, inverse float64) (gradient, size []float64) {
	gradient, size = make([]float64, len(logits.value)), make([]float64, len(logits.value))
	for i, target := range targets {
		p, logs, entropy := softmax(part(logits.value, i, i+1, vocabulary), inverse)
		grow := 1.0
		for j := range p {
			grow = max(grow, 1+2*logits.magnitude[i*vocabulary+j]*inverse)
		}
		e := valueAt(dEntropies, i)
		for j := range p {
			at := i*vocabulary + j
			hit := 0.0
			if int32(j) == target {
				hit = 1
			}
			gradient[at] = inverse * (dLogProbs[i]*(hit-p[j]) - e*p[j]*(logs[j]+entropy))
			size[at] = inverse * (math.Abs(dLogProbs[i])*(hit+p[j]*grow) + math.Abs(e)*p[j]*(math.Abs(logs[j])+entropy+1)*grow)
		}
	}
	return gradient, size
}

// sampling is the host's copy of device.Sampling without the random number.
type sampling struct {
	temperature, topP, minP float64
	topK                    int
}

// cut is the distribution that a token is drawn from: zero outside the tokens kept.
func cut(logits []float64, how sampling) []float64 {
	p, _, _ := softmax(logits, 1/how.temperature)
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return logits[order[a]] > logits[order[b]] })
	if how.topK > 0 {
		order = order[:min(how.topK, len(order))]
	}
	total := 0.0
	for _, i := range order {
		total += p[i]
	}
	if how.topP < 1 {
		share := 0.0
		for n, i := range order {
			share += p[i] / total
			if share >= how.topP {
				order = order[:n+1]
				break
			}
		}
	}
	kept := make([]float64, len(p))
	sum := 0.0
	for _, i := range order {
		if p[i] >= how.minP*p[order[0]] {
			kept[i] = p[i]
			sum += p[i]
		}
	}
	for i := range kept {
		kept[i] /= sum
	}
	return kept
}

// likeliest is the first of the largest logits.
func likeliest(logits []float64) int {
	best := 0
	for i, z := range logits {
		if z > logits[best] {
			best = i
		}
	}
	return best
}

// draw is the token at which the distribution's inverse is read.
func draw(p []float64, uniform float64) int {
	sum, last := 0.0, -1
	for i, share := range p {
		if share == 0 {
			continue
		}
		sum += share
		last = i
		if uniform < sum {
			return i
		}
	}
	return last
}
