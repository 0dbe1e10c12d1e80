package device

// MostFetched is how many fetches of the same Draws may be on their way at once.
const MostFetched = 2

// Ahead is a device that computes while its host does something else, so that its host may queue a decoding pass before it
// knows the choices of the pass before: the pass reads these from Draws.Tokens. A device without it has computed everything when
// a call returns.
type Ahead interface {
	// Fetch queues the way of the last Draw's choices to the host, behind which the next PlaceSampling and Draw may be queued.
	// Each Drawn that follows waits for the choices that were fetched first, for no more than was queued before their Fetch, and
	// wants as many rows as were placed then. At most MostFetched are on their way at once. FreeDraws forgets those that are. The
	// error is that of Drawn; nothing is on its way then that was not before.
	Fetch(d *Draws) error
}
