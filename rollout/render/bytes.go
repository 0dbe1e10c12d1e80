package render

import "fmt"

// The files spell every byte as one printable rune (the GPT-2 alphabet): printable Latin-1 bytes
// stand for themselves and the others take runes from U+0100 on.
var (
	byteToRune [256]rune
	runeToByte = make(map[rune]byte, 256)
)

var _ = fillByteAlphabet()

func fillByteAlphabet() bool {
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !('!' <= r && r <= '~' || 0xA1 <= r && r <= 0xAC || 0xAE <= r && r <= 0xFF) {
			r, next = next, next+1
		}
		byteToRune[b] = r
		runeToByte[r] = byte(b)
	}
	return true
}

// spell writes bytes in the alphabet of the files.
func spell(bytes string) string {
	runes := make([]rune, len(bytes))
	for i := range len(bytes) {
		runes[i] = byteToRune[bytes[i]]
	}
	return string(runes)
}

// unspell is the inverse of spell.
func unspell(spelled string) (string, error) {
	bytes := make([]byte, 0, len(spelled))
	for _, r := range spelled {
		b, ok := runeToByte[r]
		if !ok {
			return "", fmt.Errorf("%q is not in the byte-level alphabet", r)
		}
		bytes = append(bytes, b)
	}
	return string(bytes), nil
}
