package policy

// rowsOf is a strided view: row j is data[j·stride : j·stride+width].
type rowsOf struct {
	data   []float32
	stride int
}

func (r rowsOf) row(j, width int) []float32 { return r.data[j*r.stride : j*r.stride+width] }

// attendRow writes one head's attention output of one query over the first len(scores) keys:
// out = Σ_j softmax(scale·q·k_j) v_j. scores is scratch and holds the probabilities afterwards.
// Every sum runs in ascending order, so the result depends on nothing but the query, keys and values.
func attendRow(out, q []float32, keys, values rowsOf, scores []float32, scale float32) {
	for j := range scores {
		scores[j] = dot(q, keys.row(j, len(q)))
	}
	softmaxRow(scores, scale)
	clear(out)
	for j, p := range scores {
		axpy(out, values.row(j, len(out)), p)
	}
}

// attendSequence fills the attention output of rows [from, to), which are one whole sequence.
func (n *network) attendSequence(a *activations, from, to int, scratch *scratch) {
	c := n.config
	dim, share := c.HeadDim, c.Heads/c.KVHeads
	scratch.scores = grown(scratch.scores, to-from)
	for h := range c.Heads {
		keys := rowsOf{a.k[from*c.kvDim()+h/share*dim:], c.kvDim()}
		values := rowsOf{a.qkv[from*c.qkvDim()+c.qDim()+c.kvDim()+h/share*dim:], c.qkvDim()}
		for i := from; i < to; i++ {
			at := i*c.qDim() + h*dim
			attendRow(a.att[at:at+dim], a.q[at:at+dim], keys, values, scratch.scores[:i-from+1], n.scale)
		}
	}
}

// attendBackSequence adds to dq, dk and the value part of dqkv the derivatives through
// attendSequence, given those of its output. With P the probabilities, o = P·v and s = scale·q·k:
// dv += Pᵀ·do, ds = P ⊙ (do·vᵀ − rowsum(do ⊙ o)), dq += scale·ds·k, dk += scale·dsᵀ·q.
func (n *network) attendBackSequence(a *activations, dAtt, dq, dk, dqkv []float32, from, to int, scratch *scratch) {
	c := n.config
	dim, share := c.HeadDim, c.Heads/c.KVHeads
	scratch.scores = grown(scratch.scores, to-from)
	for h := range c.Heads {
		keyAt := from*c.kvDim() + h/share*dim
		valueAt := from*c.qkvDim() + c.qDim() + c.kvDim() + h/share*dim
		keys, dKeys := rowsOf{a.k[keyAt:], c.kvDim()}, rowsOf{dk[keyAt:], c.kvDim()}
		values, dValues := rowsOf{a.qkv[valueAt:], c.qkvDim()}, rowsOf{dqkv[valueAt:], c.qkvDim()}
		for i := from; i < to; i++ {
			at := i*c.qDim() + h*dim
			q, out, dOut, dQuery := a.q[at:at+dim], a.att[at:at+dim], dAtt[at:at+dim], dq[at:at+dim]
			probabilities := scratch.scores[:i-from+1]
			for j := range probabilities {
				probabilities[j] = dot(q, keys.row(j, dim))
			}
			softmaxRow(probabilities, n.scale)
			total := dot(dOut, out)
			for j, p := range probabilities {
				axpy(dValues.row(j, dim), dOut, p)
				ds := p * (dot(dOut, values.row(j, dim)) - total) * n.scale
				axpy(dQuery, keys.row(j, dim), ds)
				axpy(dKeys.row(j, dim), q, ds)
			}
		}
	}
}

// attendCached fills the attention output of rows [row, row+rows), the tokens at positions cached … of a
// sequence whose keys and values, the rows' own included, are in the caches.
func (n *network) attendCached(a *activations, row, rows, cached int, keyCache, valueCache []float32, scratch *scratch) {
	c := n.config
	dim, share := c.HeadDim, c.Heads/c.KVHeads
	scratch.scores = grown(scratch.scores, cached+rows)
	for h := range c.Heads {
		keys := rowsOf{keyCache[h/share*dim:], c.kvDim()}
		values := rowsOf{valueCache[h/share*dim:], c.kvDim()}
		for i := range rows {
			at := (row+i)*c.qDim() + h*dim
			attendRow(a.att[at:at+dim], a.q[at:at+dim], keys, values, scratch.scores[:cached+i+1], n.scale)
		}
	}
}
