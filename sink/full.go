package sink

import "sync"

// refusals remember that chunks were refused for want of room, so that it is said
// once when it begins and once when it is over. It is over when one as large as
// any that was refused is taken: smaller ones find room all the while.
type refusals struct {
	mu      sync.Mutex
	largest int // bytes; 0 while there is room
}

// note tells whether this refusal is the first.
func (r *refusals) note(size int) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = r.largest == 0
	r.largest = max(r.largest, size, 1)
	return first
}

// over tells whether the frame taken ends the want of room. It also ends when
// nothing was left to ship: the large one may never come again.
func (r *refusals) over(size int, drained bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.largest == 0 || (size < r.largest && !drained) {
		return false
	}
	r.largest = 0
	return true
}

// refused is the size of the largest that was refused; 0 while there is room.
func (r *refusals) refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.largest
}
