package shape

import (
	"fmt"
	"slices"
)

// within checks a setting with two bounds.
func within(key string, v, low, high float64) error {
	if !(v >= low && v <= high) {
		return fmt.Errorf("%s: %v must lie between %v and %v", key, v, low, high)
	}
	return nil
}

// someTools checks a list of tools of which at least one is needed.
func someTools(key string, tools []string) error {
	if len(tools) == 0 {
		return fmt.Errorf("%s: empty: name at least one tool", key)
	}
	return nil
}

// filled checks the name of a tool or of an argument.
func filled(key, name string) error {
	if name == "" {
		return fmt.Errorf("%s: empty: name one", key)
	}
	return nil
}

// oneOf checks a setting with listed values.
func oneOf[T ~string](key string, v T, legal []T) error {
	if !slices.Contains(legal, v) {
		return fmt.Errorf("%s: unknown value %q: use one of %v", key, v, legal)
	}
	return nil
}

// first returns the first error of several checks.
func first(checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}
