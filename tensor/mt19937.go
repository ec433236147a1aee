package tensor

// mt19937 is the Mersenne Twister of Matsumoto and Nishimura (1998), the engine
// of torch's CPU generator.
type mt19937 struct {
	state [624]uint32
	next  int // index of the next word; len(state) when all are used up
}

// newMT19937 seeds as init_genrand of the authors' reference code does.
func newMT19937(seed uint32) *mt19937 {
	m := &mt19937{next: 624}
	m.state[0] = seed
	for i := 1; i < len(m.state); i++ {
		prev := m.state[i-1]
		m.state[i] = 1812433253*(prev^prev>>30) + uint32(i)
	}
	return m
}

// uint32 draws 32 bits.
func (m *mt19937) uint32() uint32 {
	if m.next == len(m.state) {
		m.twist()
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// uint53 draws two words, the high one first, and keeps the low 53 bits.
func (m *mt19937) uint53() uint64 {
	high := uint64(m.uint32())
	return (high<<32 | uint64(m.uint32())) & (1<<53 - 1)
}

func (m *mt19937) twist() {
	s := &m.state
	for k := range s {
		y := s[k]&0x80000000 | s[(k+1)%624]&0x7fffffff
		s[k] = s[(k+397)%624] ^ y>>1 ^ -(y&1)&0x9908b0df
	}
	m.next = 0
}
