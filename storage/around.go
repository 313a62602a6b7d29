package storage

// As returns be as a T, or the first of the Backends that it stands around which is
// one. A Backend that stands around another has a method Around, which returns that.
func As[T any](be Backend) (found T, ok bool) {
	for be != nil {
		if found, ok = be.(T); ok {
			return found, true
		}
		outer, stands := be.(interface{ Around() Backend })
		if !stands {
			break
		}
		be = outer.Around()
	}
	return found, false
}
