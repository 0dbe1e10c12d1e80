package policy

import (
	"errors"
	"fmt"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// ErrChanged says that a model's weights have changed since they were offered, and that nobody had asked for them until then.
var ErrChanged = errors.New("the weights have changed since")

// Offer is a model's weights of one moment, for whoever asks before they change. Until somebody does, it takes no memory, nor does
// the model's next update. Its methods may be called by any goroutine, beside those of the model.
type Offer struct {
	on    device.Device
	mu    *sync.Mutex // the model's
	model *Model      // guarded by mu; nil once the weights have changed, or the offer was withdrawn
	kept  *Network    // guarded by mu; nil until somebody has asked
}

// offering is what a model's goroutine and those who take what it offers share.
type offering struct {
	mu   sync.Mutex // held while the weights become others, too
	open *Offer     // guarded by mu; of the weights as they are, if they are offered
}

// lapse ends the offer of the weights as they are. The caller holds mu.
func (o *offering) lapse() {
	if o.open != nil {
		o.open.model, o.open = nil, nil
	}
}

// Offer offers the weights of this moment, in place of what was offered before and nobody has asked for.
func (m *Model) Offer() *Offer {
	m.offered.mu.Lock()
	defer m.offered.mu.Unlock()
	m.offered.lapse()
	m.offered.open = &Offer{on: m.dev, mu: &m.offered.mu, model: m}
	return m.offered.open
}

// Take is a network of the offered weights for a user of the model's device. The error is [ErrChanged], or that of [Model.Share]; or it
// says that the device is another one.
func (o *Offer) Take(user device.Device) (*Network, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.kept != nil:
	case !device.Same(user, o.on):
		return nil, fmt.Errorf("the weights are on device %s, not on %s", o.on.Name(), user.Name())
	case o.model == nil:
		return nil, ErrChanged
	default:
		network, err := o.model.share(user)
		if err != nil {
			return nil, err
		}
		o.kept = network
	}
	return o.kept.Again(user)
}

// Taken reports whether somebody has asked, so that the offer holds memory.
func (o *Offer) Taken() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept != nil
}

// Free withdraws the offer. Networks that were taken stay as they are.
func (o *Offer) Free() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.model = nil
	if o.kept != nil {
		o.kept.Free()
		o.kept = nil
	}
}
