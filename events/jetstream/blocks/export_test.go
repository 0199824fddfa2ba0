package blocks

import "time"

// Hurry shortens how long what may be the server's work is read again.
func (s *Stream) Hurry(still, overdue time.Duration) { s.patient = patience{still, overdue} }
