package devicetest

import "math"

// adamWStep are the scalars of device.AdamWStep.
type adamWStep struct {
	rate, beta1, beta2, epsilon, decay, correction1, correction2 float64
}

// adamW is one step: the new parameters, first and second moments.
func adamW(s adamWStep, w, g, m, v []float64) (newW, newM, newV estimate) {
	newW, newM, newV = newEstimate(len(w), 0), newEstimate(len(w), 0), newEstimate(len(w), 0)
	for i := range w {
		newM.add(i, s.beta1*m[i])
		newM.add(i, (1-s.beta1)*g[i])
		newV.add(i, s.beta2*v[i])
		newV.add(i, (1-s.beta2)*g[i]*g[i])
		newW.add(i, (1-s.rate*s.decay)*w[i])
		divisor := math.Sqrt(newV.value[i]/s.correction2) + s.epsilon
		newW.value[i] -= s.rate * (newM.value[i] / s.correction1) / divisor
		newW.magnitude[i] += s.rate * (newM.magnitude[i] / s.correction1) / divisor
	}
	return newW, newM, newV
}
