package cpu

func sumDoubleGo(x []float32) (total float64) {
	for _, v := range x {
		total += float64(v)
	}
	return total
}

// excessGo is 0, or NaN where x has a value that is not finite: those alone do not cancel.
func excessGo(x []float32) (total float32) {
	for _, v := range x {
		total += v - v
	}
	return total
}
