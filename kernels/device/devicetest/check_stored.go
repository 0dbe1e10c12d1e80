package devicetest

import "github.com/turnwise-rl/turnwise/kernels/device"

// checkProductStored wants a matrix of the type BF16 to be its own form: no memory, changes that are seen at once, and on an
// exact device the bits of a form that is made of the same numbers in float32.
func checkProductStored(c *check) {
	if c.dtype != device.BF16 {
		return
	}
	for i, shape := range c.triples() {
		n, out, in := shape[0], shape[1], shape[2]
		whole := c.allocate(device.BF16, out*in+8)
		stored := whole.Slice(8, 8+out*in)
		held := c.device.Usage().Bytes
		own, err := c.device.NewWeights(stored, c.dtype, out, in, device.ForwardBack)
		c.must(err)
		if more := c.device.Usage().Bytes - held; more != 0 {
			c.failf("a form of a matrix that is stored in %v takes %d bytes", c.dtype, more)
		}
		for version := range 2 {
			w := rounded(c.dtype, c.weights(out*in, 0.3))
			c.device.Upload(stored, w)
			made, _, free := c.newWeights(w, out, in, device.ForwardBack)
			x, dy := c.numbers(n*in, 1), c.numbers(n*out, 1)
			s := c.scene(uint64(2*i+version), "%d rows, %d to %d", n, in, out)
			xs, dys := s.input("x", x, n, in), s.input("dy", dy, n, out)
			y, want := s.output("y", n, out), s.output("y of a form", n, out)
			dx, wantBack := s.output("dx", n, in), s.output("dx of a form", n, in)
			c.device.Product(y.matrix(), xs.matrix(), n, own, false)
			c.device.Product(want.matrix(), xs.matrix(), n, made, false)
			c.device.ProductBack(dx.matrix(), dys.matrix(), n, own, false)
			c.device.ProductBack(wantBack.matrix(), dys.matrix(), n, made, false)
			got, same, gotBack, sameBack := y.take(), want.take(), dx.take(), wantBack.take()
			c.close("y of a stored matrix", c.dtype, got, product(nil, wide(x), wide(w), n, out, in))
			c.close("dx of a stored matrix", c.dtype, gotBack, productBack(nil, wide(dy), wide(w), n, out, in))
			if c.options.Exact { // elsewhere the way of computing may depend on where a matrix lies
				c.equal("y of a stored matrix", got, same)
				c.equal("dx of a stored matrix", gotBack, sameBack)
			}
			s.finish()
			free()
			c.device.Refresh(own) // changes nothing
		}
		c.device.FreeWeights(own)
		c.device.Free(whole)
	}
}
