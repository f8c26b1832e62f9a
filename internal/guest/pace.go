package guest

// pace is what the connection to a deterministic guest can do beside carrying bytes. The guest
// stands until the host has done all that follows from what it has sent, and somebody waits for it.
type pace interface {
	// Adjust adds to the numbers of those who may be about to send something, and of those who
	// wait for the guest.
	Adjust(busy, waiting int)
	// Began says what is begun, for people.
	Began(op string)
	// Passed returns how many sync points the guest has passed: each is a sign of life.
	Passed() uint64
}

// IsPaced reports whether the guest is deterministic: its time passes only while somebody waits for it.
func (c *Client) IsPaced() bool { return c.pace != nil }

// adjust is pace.Adjust, for every guest.
func (c *Client) adjust(busy, waiting int) {
	if c.pace != nil {
		c.pace.Adjust(busy, waiting)
	}
}

// park is called before a wait for op.wake, by the one goroutine that waits for it, and unpark after it.
func (op *call) park() {
	if op.client.pace == nil {
		return
	}
	op.parking.Lock()
	defer op.parking.Unlock()
	if len(op.wake) == 0 {
		op.isParked = true
		op.client.adjust(-1, +1)
	}
}

// unpark ends a park, if that was not done by who has something new.
func (op *call) unpark() {
	if op.client.pace == nil {
		return
	}
	op.parking.Lock()
	defer op.parking.Unlock()
	op.unparkLocked()
}

// unparkLocked is unpark for a caller that holds op.parking.
func (op *call) unparkLocked() {
	if op.isParked {
		op.isParked = false
		op.client.adjust(+1, -1)
	}
}
