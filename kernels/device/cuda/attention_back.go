package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

type attendBackArgs struct {
	dq, dk, dv                                                                     pointer
	dOut, out, q, k, v                                                             pointer
	offsets, statistics                                                            pointer
	dqStride, dkStride, dvStride, dOutStride, outStride, qStride, kStride, vStride int64
	sequences, keyHeads, share, dim                                                int32
	fours                                                                          int32
	scale                                                                          float32
}

// statisticsBytes is what the first kernel of AttendBack leaves the second of each query head of each row.
const statisticsBytes = 16

// AttendBack writes the gradients of q, k and v, given out and its gradient. It computes the shares twice again, for the
// gradients of queries and for those of keys and values, and keeps 16 bytes for each query head of each row meanwhile. In
// the fast mode, tensor cores compute what Attend has computed with them, where gradients and outputs lie at multiples of
// 16 bytes too: with 4 bytes for each query head of each row meanwhile, and with 8 when Kept is absent.
func (d *Device) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	const name = "AttendBack"
	device.CheckAttendBack(dq, dk, dv, dOut, out, a, d.KeptWidth(a.Q.Data.DType(), a.Heads))
	checkHead(name, a.Dim)
	toQ, toK, toV := d.operand(name, dq), d.operand(name, dk), d.operand(name, dv)
	from, o, q, k, v := d.operand(name, dOut), d.operand(name, out), d.operand(name, a.Q), d.operand(name, a.K), d.operand(name, a.V)
	offsets, kept, rows, sequences := d.at(name, a.Offsets.Device), d.at(name, a.Kept), a.Offsets.Rows(), a.Offsets.Sequences()
	if rows == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.attendsFast(a, q, k, v) && inPieces(toQ, toK, toV, from, o) {
		d.fail(name, d.attendBackFast(toQ, toK, toV, from, o, a, q, k, v, offsets, kept))
		return
	}
	statistics, err := d.reserve(device.ForWorkspace, statisticsBytes*int64(rows)*int64(a.Heads))
	if err != nil {
		d.fail(name, err)
		return
	}
	share := a.Heads / a.KVHeads
	all := attendBackArgs{
		dq: toQ.at, dk: toK.at, dv: toV.at, dOut: from.at, out: o.at, q: q.at, k: k.at, v: v.at, offsets: offsets, statistics: statistics.address,
		dqStride: int64(toQ.stride), dkStride: int64(toK.stride), dvStride: int64(toV.stride), dOutStride: int64(from.stride), outStride: int64(o.stride),
		qStride: int64(q.stride), kStride: int64(k.stride), vStride: int64(v.stride),
		sequences: int32(sequences), keyHeads: int32(a.KVHeads), share: int32(share), dim: int32(a.Dim), fours: inFours(a.Dim, from, q, k, v), scale: a.Scale,
	}
	launch(d, wide("attend_back_queries", a.Dim, q.t), attentionGrid(rows, sequences, share, a.KVHeads), attentionThreads, all)
	launch(d, wide("attend_back_keys", a.Dim, q.t), attentionGrid(rows, sequences, 1, a.KVHeads), attentionThreads, all)
	d.give(statistics)
}
