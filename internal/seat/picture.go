package seat

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
)

// MaxPicture is the most that a picture may have, in pixels.
const MaxPicture = 1 << 24

// errPicture is returned for what is not a whole picture.
var errPicture = errors.New("the picture of the screen is not a whole portable pixmap (P6)")

// PNG returns a picture in the format PNG. Equal pictures have equal bytes. pixmap is a portable pixmap (P6) with
// 8 bits per colour, as QEMU writes it.
func PNG(pixmap []byte) ([]byte, error) {
	var width, height, most int
	r := bytes.NewReader(pixmap)
	if n, err := fmt.Fscanf(r, "P6\n%d %d\n%d\n", &width, &height, &most); n != 3 || err != nil {
		return nil, errPicture
	}
	if width < 1 || height < 1 || most != 255 || width > MaxPicture/height || r.Len() != 3*width*height {
		return nil, errPicture
	}
	pixels := pixmap[len(pixmap)-r.Len():]
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(img.Pix[4*i:], pixels[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
