package policy

import "github.com/turnwise-rl/turnwise/kernels/device"

// Forms lists the forms that the model's passes read of trained matrices, after [Model.DetachTrained], so that an
// optimizer's step may write them together with the weights. After such a step call [Model.Rejoin] in place of
// RefreshTrained. The error is that of DetachTrained.
func (m *Model) Forms() ([]device.Weights, error) {
	if err := m.DetachTrained(); err != nil {
		return nil, err
	}
	if m.form.stored == device.BF16 {
		return nil, nil // matrices are their own forms
	}
	var list []device.Weights
	for _, s := range m.forms.trained.slots {
		if s.form != &m.net.head.form || !m.net.head.adapted() {
			list = append(list, *s.form)
		}
	}
	return list, nil
}

// Rejoin makes again what is made of trained weights and of others together: the matrix of a head with an adapter.
func (m *Model) Rejoin() {
	if h := &m.net.head; h.adapted() {
		h.join(m.dev)
		m.dev.Refresh(h.form)
	}
}
