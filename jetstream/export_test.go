package jetstream

// ProveSlow has c take its line for one that lost a connection because it was too slow.
func (c *Conn) ProveSlow() {
	n := c.windows.take(0)
	defer c.windows.give(n)
	c.windows.slow()
}

// OldestOf is what Conn.Oldest makes of a server's release and the API's level.
func OldestOf(connected Release, level int) Release { return oldest(connected, level) }
