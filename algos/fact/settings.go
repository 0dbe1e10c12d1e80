package fact

import (
	"fmt"
	"math"
)

// Finite reports a setting that is not a finite number; key is what it is called in a method file.
func Finite(key string, x float64) error {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Errorf("%s: %v is not a finite number", key, x)
	}
	return nil
}

// Positive reports a setting that is not a finite number greater than 0.
func Positive(key string, x float64) error {
	if !(x > 0) || math.IsInf(x, 0) {
		return fmt.Errorf("%s: %v must be a finite number greater than 0", key, x)
	}
	return nil
}

// NotNegative reports a setting that is not a finite number, at least 0.
func NotNegative(key string, x float64) error {
	if !(x >= 0) || math.IsInf(x, 0) {
		return fmt.Errorf("%s: %v must be a finite number, at least 0", key, x)
	}
	return nil
}

// Named reports a setting that should name a recorded fact and is empty.
func Named(key, name string) error {
	if name == "" {
		return fmt.Errorf("%s: empty: name a recorded value", key)
	}
	return nil
}
