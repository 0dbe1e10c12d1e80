package render

// Markers returns the renderer of a folder that [Tokenizer.SaveFolder] wrote, as the export of a policy
// that was trained from random weights is. False means that the folder has a chat template of its own.
func (f *Folder) Markers() (*Markers, bool) {
	source, err := f.template(false)
	if err != nil || source.text != chatTemplate {
		return nil, false
	}
	markers, err := NewMarkers(f.Tokenizer)
	return markers, err == nil
}

// ChatTemplate is the text of the template that [Folder.NewChat] takes, for episodes with tools or without.
func (f *Folder) ChatTemplate(tools bool) (string, error) {
	source, err := f.template(tools)
	return source.text, err
}
