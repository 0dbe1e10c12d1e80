package policy

import "github.com/turnwise-rl/turnwise/kernels/device/cpu"

// strided is a matrix inside a wider one: row j starts at data[j·ld].
type strided struct {
	data []float32
	ld   int
}

func (s strided) from(row int) strided { return strided{s.data[row*s.ld:], s.ld} }

// keyMatrix is the keys of one head: keys × HeadDim, or transposed as the decoder caches them.
type keyMatrix struct {
	strided
	transposed bool
}

// attentionTile is one head's attention of a few query rows.
type attentionTile struct {
	rows    int
	visible int // keys the first row sees
	grow    int // how many more each further row sees: 1 for successive tokens, 0 for heads of one token
	q       strided
	keys    keyMatrix
	values  strided
	out     strided
}

// tileRows is how many query rows share a product; a tile's later columns are wasted on its earlier
// rows, so few, but enough to keep products efficient.
const tileRows = 64

// columns is how many keys the last row sees.
func (t attentionTile) columns() int { return t.visible + (t.rows-1)*t.grow }

// probabilities fills s.scores with softmax(scale·q·kᵀ) row by row, 0 for keys a row does not see.
// An element is one chain of multiply-adds over the head and a row's sum depends on the keys it sees
// alone, so the bits are the same for one row and for many.
func (n *network) probabilities(t attentionTile, s *scratch) {
	columns := t.columns()
	s.scores = grown(s.scores, t.rows*columns)
	cpu.Gemm(false, !t.keys.transposed, t.rows, columns, n.config.HeadDim, t.q.data, t.q.ld, t.keys.data, t.keys.ld, s.scores, columns, false)
	for i := range t.rows {
		row := s.scores[i*columns : (i+1)*columns]
		visible := t.visible + i*t.grow
		softmaxRow(row[:visible], n.scale)
		clear(row[visible:])
	}
}

// attend writes the tile's output, Σ_j p_j·v_j in ascending order of keys. The zeros behind what a
// row sees add nothing.
func (n *network) attend(t attentionTile, s *scratch) {
	n.probabilities(t, s)
	columns := t.columns()
	cpu.Gemm(false, false, t.rows, n.config.HeadDim, columns, s.scores, columns, t.values.data, t.values.ld, t.out.data, t.out.ld, false)
}

// sequenceTile is the part of rows [first, first+count) of a sequence's attention with query head h.
// The sequence begins at row start of the activations.
func (n *network) sequenceTile(a *activations, h, start, first, count int) attentionTile {
	c := n.config
	kv := h * c.KVHeads / c.Heads * c.HeadDim
	at := (start+first)*c.qDim() + h*c.HeadDim
	return attentionTile{
		rows: count, visible: first + 1, grow: 1,
		q:      strided{a.q[at:], c.qDim()},
		keys:   keyMatrix{strided: strided{a.k[start*c.kvDim()+kv:], c.kvDim()}},
		values: strided{a.qkv[start*c.qkvDim()+c.qDim()+c.kvDim()+kv:], c.qkvDim()},
		out:    strided{a.att[at:], c.qDim()},
	}
}

// attendSequence fills the attention output of rows [from, to), which are one whole sequence.
func (n *network) attendSequence(a *activations, from, to int, s *scratch) {
	for h := range n.config.Heads {
		for first := 0; first < to-from; first += tileRows {
			n.attend(n.sequenceTile(a, h, from, first, min(tileRows, to-from-first)), s)
		}
	}
}

// attendBackSequence writes the derivatives through attendSequence to dq and adds them to dk and the
// value part of dqkv, given those of its output. With P the probabilities, o = P·v and s = scale·q·k:
// dv += Pᵀ·do, ds = P ⊙ (do·vᵀ − rowsum(do ⊙ o)), dq = scale·ds·k, dk += scale·dsᵀ·q.
func (n *network) attendBackSequence(a *activations, dAtt, dq, dk, dqkv []float32, from, to int, s *scratch) {
	c := n.config
	d := c.HeadDim
	for h := range c.Heads {
		kv := h * c.KVHeads / c.Heads * d
		dKeys := strided{dk[from*c.kvDim()+kv:], c.kvDim()}
		dValues := strided{dqkv[from*c.qkvDim()+c.qDim()+c.kvDim()+kv:], c.qkvDim()}
		for first := 0; first < to-from; first += tileRows {
			t := n.sequenceTile(a, h, from, first, min(tileRows, to-from-first))
			columns, at := t.columns(), (from+first)*c.qDim()+h*d
			dOut, dQuery := strided{dAtt[at:], c.qDim()}, strided{dq[at:], c.qDim()}
			n.probabilities(t, s)
			cpu.Gemm(true, false, columns, d, t.rows, s.scores, columns, dOut.data, dOut.ld, dValues.data, dValues.ld, true)
			s.dScores = grown(s.dScores, t.rows*columns)
			cpu.Gemm(false, true, t.rows, columns, d, dOut.data, dOut.ld, t.values.data, t.values.ld, s.dScores, columns, false)
			for i := range t.rows {
				total := cpu.Dot(dOut.from(i).data[:d], t.out.from(i).data[:d])
				visible := t.visible + i
				softmaxBackRow(s.dScores[i*columns:i*columns+visible], s.scores[i*columns:i*columns+visible], total, n.scale)
				clear(s.dScores[i*columns+visible : (i+1)*columns])
			}
			cpu.Gemm(false, false, t.rows, d, columns, s.dScores, columns, t.keys.data, t.keys.ld, dQuery.data, dQuery.ld, false)
			cpu.Gemm(true, false, columns, d, t.rows, s.dScores, columns, t.q.data, t.q.ld, dKeys.data, dKeys.ld, true)
		}
	}
}

// attendCached fills the attention output of rows [row, row+rows), the tokens at positions cached … of
// a sequence whose keys and values, the rows' own included, are in the slot's cache of layer l.
func (n *network) attendCached(a *activations, row, rows, cached, l int, cache *slot, s *scratch) {
	c := n.config
	share := c.Heads / c.KVHeads
	for kv := range c.KVHeads {
		keys := keyMatrix{strided{cache.keys[l][kv*c.HeadDim*cache.stride:], cache.stride}, true}
		values := strided{cache.values[l][kv*c.HeadDim:], c.kvDim()}
		at := row*c.qDim() + kv*share*c.HeadDim
		if rows == 1 { // the heads that share keys are the rows of one product
			n.attend(attentionTile{
				rows: share, visible: cached + 1, keys: keys, values: values,
				q: strided{a.q[at:], c.HeadDim}, out: strided{a.att[at:], c.HeadDim},
			}, s)
			continue
		}
		for h := range share {
			for first := 0; first < rows; first += tileRows {
				tile := at + first*c.qDim() + h*c.HeadDim
				n.attend(attentionTile{
					rows: min(tileRows, rows-first), visible: cached + first + 1, grow: 1, keys: keys, values: values,
					q: strided{a.q[tile:], c.qDim()}, out: strided{a.att[tile:], c.qDim()},
				}, s)
			}
		}
	}
}
