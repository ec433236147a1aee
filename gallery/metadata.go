package gallery

import (
	"encoding/binary"
	"unicode/utf16"
)

// xmpPacket marks a picture as made by a trained model (IPTC Photo Metadata
// Standard, DigitalSourceType).
const xmpPacket = "<?xpacket begin=\"\uFEFF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n" +
	`<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmp:CreatorTool="leafserve"
    Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>`

// exifUserComment is a big-endian TIFF block whose only content is text as the
// UserComment (Exif 3.0, §4.6.6): "UNICODE", then UTF-16.
func exifUserComment(text string) []byte {
	const (
		typeLong, typeUndefined    = 4, 7
		tagExifIFD, tagUserComment = 0x8769, 0x9286
		headerSize, ifdSize        = 8, 2 + 12 + 4 // an IFD of one entry
	)
	comment := []byte("UNICODE\x00")
	for _, unit := range utf16.Encode([]rune(text)) {
		comment = binary.BigEndian.AppendUint16(comment, unit)
	}
	b := []byte{'M', 'M', 0, 42, 0, 0, 0, headerSize}
	b = appendIFD(b, tagExifIFD, typeLong, 1, headerSize+ifdSize)
	b = appendIFD(b, tagUserComment, typeUndefined, len(comment), headerSize+2*ifdSize)
	return append(b, comment...)
}

// appendIFD appends an image file directory of one entry, the last of its chain.
func appendIFD(b []byte, tag, kind uint16, count, value int) []byte {
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, tag)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = binary.BigEndian.AppendUint32(b, uint32(value))
	return binary.BigEndian.AppendUint32(b, 0)
}
