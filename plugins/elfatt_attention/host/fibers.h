// Runs the threads of one thread block as fibers, so that barriers and warp collectives are real:
// a thread that reaches one stops there until the others have.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace elfatt_host {

constexpr int kWarp = 32;
constexpr int kMostThreads = 1024;
constexpr int kExchangeWords = 16;

// End the program with a message that names the thread block and the thread.
[[noreturn]] void fail(const std::string& what);

// Run `kernel` once for every thread of a grid of `blocks` x `threads`, block after block.
void launch(int blocks, int threads, const std::function<void()>& kernel);

// Kernels launched so far.
int launches();

int thread_index();
int block_index();

// Wait for all threads of the block; `place` names the barrier.
void block_barrier(const char* place);

// Leave up to 16 words for the warp and wait for all its lanes, which must be at the same place.
void warp_exchange(const char* place, const std::uint32_t* words, int count);

// What a lane of this warp left in the exchange that the caller just passed.
const std::uint32_t* left_by(int lane);

// The bytes of shared memory of the running block; every place in it remembers who used it.
class SharedBytes {
 public:
  static SharedBytes& of_block(int bytes);
  int size() const;
  // The address of `count` bytes that the running thread is about to read or write.
  unsigned char* at(int byte, int count, bool write);
};

}  // namespace elfatt_host
