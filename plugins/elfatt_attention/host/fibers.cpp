#include "fibers.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace elfatt_host {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;

enum class State { kReady, kAtBarrier, kAtExchange, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
  State state = State::kDone;
  const char* place = "";
  unsigned exchanges = 0;
  std::uint32_t left[2][kExchangeWords];  // of the last two exchanges
};

// Who last wrote and read four bytes of shared memory, and after how many barriers.
struct Trace {
  int writer = -1, reader = -1;  // reader -2: several
  std::uint32_t written = 0, read = 0;
};

struct Machine {
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  const std::function<void()>* kernel = nullptr;
  int launches = 0, block = 0, thread = -1;
  std::uint32_t barriers = 0;
  std::vector<unsigned char> shared;
  std::vector<Trace> traces;
  bool shared_taken = false;
  void* fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_bytes = 0;
};

Machine machine;

// The two switches tell AddressSanitizer which stack is in use.
void enter_scheduler() {
  Fiber& fiber = machine.fibers[machine.thread];
#if defined(__SANITIZE_ADDRESS__)
  void* own = nullptr;
  __sanitizer_start_switch_fiber(&own, machine.scheduler_stack, machine.scheduler_stack_bytes);
#endif
  swapcontext(&fiber.context, &machine.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(own, &machine.scheduler_stack, &machine.scheduler_stack_bytes);
#endif
}

void enter_fiber(int thread) {
  machine.thread = thread;
  Fiber& fiber = machine.fibers[thread];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&machine.fake_stack, fiber.stack.get(), kStackBytes);
#endif
  swapcontext(&machine.scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(machine.fake_stack, nullptr, nullptr);
#endif
  machine.thread = -1;
}

// A fiber runs the kernel once for every thread block and is never torn down.
void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_stack,
                                  &machine.scheduler_stack_bytes);
#endif
  for (;;) {
    (*machine.kernel)();
    machine.fibers[machine.thread].state = State::kDone;
    enter_scheduler();
  }
}

void stop_here(State state, const char* place) {
  Fiber& fiber = machine.fibers[machine.thread];
  fiber.state = state;
  fiber.place = place;
  enter_scheduler();
}

void make_fibers(int threads) {
  if (threads < kWarp || threads > kMostThreads || threads % kWarp != 0)
    fail("a block of " + std::to_string(threads) + " threads; whole warps up to 1024 are run");
  while (static_cast<int>(machine.fibers.size()) < threads) {
    machine.fibers.emplace_back();
    Fiber& fiber = machine.fibers.back();
    fiber.stack.reset(new unsigned char[kStackBytes]);
  }
  for (Fiber& fiber : machine.fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
}

// Every thread of [first, last) must stand where the first one stands.
void expect_together(int first, int last) {
  const Fiber& leader = machine.fibers[first];
  for (int i = first + 1; i < last; ++i) {
    const Fiber& fiber = machine.fibers[i];
    const bool same_place = std::strcmp(fiber.place, leader.place) == 0;
    if (fiber.state == leader.state && (fiber.state == State::kDone || same_place)) continue;
    machine.thread = i;
    fail("divergence: thread " + std::to_string(first) + " is at " +
         (leader.state == State::kDone ? "the end" : leader.place) + ", this one at " +
         (fiber.state == State::kDone ? "the end" : fiber.place));
  }
}

std::string place_of(int trace) {
  return "byte " + std::to_string(4 * trace) + " of shared memory";
}

void run_warp(int first) {
  for (;;) {
    for (int i = first; i < first + kWarp; ++i)
      if (machine.fibers[i].state == State::kReady) enter_fiber(i);
    bool exchanging = false;
    for (int i = first; i < first + kWarp; ++i)
      exchanging = exchanging || machine.fibers[i].state == State::kAtExchange;
    if (!exchanging) return;
    expect_together(first, first + kWarp);
    for (int i = first; i < first + kWarp; ++i) machine.fibers[i].state = State::kReady;
  }
}

void run_block(int block, int threads) {
  machine.block = block;
  machine.barriers = 1;
  machine.shared_taken = false;
  for (int i = 0; i < threads; ++i) machine.fibers[i].state = State::kReady;
  for (;;) {
    for (int first = 0; first < threads; first += kWarp) run_warp(first);
    expect_together(0, threads);
    if (machine.fibers[0].state == State::kDone) return;
    ++machine.barriers;
    for (int i = 0; i < threads; ++i) machine.fibers[i].state = State::kReady;
  }
}

}  // namespace

void fail(const std::string& what) {
  std::fflush(stdout);
  std::fprintf(stderr, "block %d, thread %d: %s\n", machine.block, machine.thread, what.c_str());
  std::_Exit(3);
}

void launch(int blocks, int threads, const std::function<void()>& kernel) {
  ++machine.launches;
  make_fibers(threads);
  machine.kernel = &kernel;
  for (int block = 0; block < blocks; ++block) run_block(block, threads);
}

int launches() { return machine.launches; }
int thread_index() { return machine.thread; }
int block_index() { return machine.block; }
void block_barrier(const char* place) { stop_here(State::kAtBarrier, place); }

void warp_exchange(const char* place, const std::uint32_t* words, int count) {
  Fiber& fiber = machine.fibers[machine.thread];
  ++fiber.exchanges;
  std::memcpy(fiber.left[fiber.exchanges % 2], words, count * sizeof *words);
  stop_here(State::kAtExchange, place);
}

const std::uint32_t* left_by(int lane) {
  const int first = machine.thread / kWarp * kWarp;
  return machine.fibers[first + lane].left[machine.fibers[machine.thread].exchanges % 2];
}

SharedBytes& SharedBytes::of_block(int bytes) {
  static SharedBytes the_one;
  if (!machine.shared_taken) {
    machine.shared_taken = true;
    machine.shared.assign(bytes, 0xff);  // not a number, in float and in half
    machine.traces.assign((bytes + 3) / 4, Trace());
  }
  return the_one;
}

int SharedBytes::size() const { return static_cast<int>(machine.shared.size()); }

unsigned char* SharedBytes::at(int byte, int count, bool write) {
  const int me = machine.thread;
  const std::uint32_t now = machine.barriers;
  for (int i = byte / 4; i < (byte + count + 3) / 4; ++i) {
    Trace& trace = machine.traces[i];
    if (trace.written == now && trace.writer != me)
      fail("race on " + place_of(i) + ": thread " + std::to_string(trace.writer) +
           " wrote it since the last barrier");
    if (write) {
      if (trace.read == now && trace.reader != me)
        fail("race on " + place_of(i) + ": another thread read it since the last barrier");
      trace.writer = me;
      trace.written = now;
    } else {
      if (trace.written == 0) fail("nobody wrote " + place_of(i));
      trace.reader = trace.read == now && trace.reader != me ? -2 : me;
      trace.read = now;
    }
  }
  return machine.shared.data() + byte;
}

}  // namespace elfatt_host
