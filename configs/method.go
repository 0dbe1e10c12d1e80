package configs

import "github.com/turnwise-rl/turnwise/kernels"

type Method struct {
	Loss kernels.Program `yaml:"loss"`
}

func defaultMethod() Method { return Method{Loss: kernels.Program{KL: "none", Ratio: "token", Anchor: "proximal", Objective: "clip", Aggregate: "token-mean"}} }
