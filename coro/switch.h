/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * switch.h - from one stack to another; included by this room's files only
 *
 * A switch is a handful of instructions: remember where this stack stops (stack pointer, frame
 * pointer, where to go on), load the same three of the other and jump.  The asm statement claims to
 * change every other register that a function must preserve, so the compiler itself saves those that
 * are live at this place, often few.  The x87 and SSE control words are not switched: here they are
 * the process's, nobody changes them.
 *
 * The jump is an indirect jump and not a return: the processor predicts it by where it is, and being
 * inlined there is one place for "enter" and one for "yield".
 *
 * Sanitizers follow the stack pointer; they are told before and after each switch.
 */
#ifndef CORO_SWITCH_H
#define CORO_SWITCH_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include "coro-int.h"

#ifdef CORO_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CORO_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif

#ifdef CORO_UCONTEXT

static inline void switch_raw(Coroutine *from, Coroutine *to)
{
    if (swapcontext(&from->ucontext, &to->ucontext) < 0) {
        abort();
    }
}

static inline void switch_raw_init(Coroutine *co)
{
    if (getcontext(&co->ucontext) < 0) {
        abort();
    }
    co->ucontext.uc_stack.ss_sp = co->stack_bottom;
    co->ucontext.uc_stack.ss_size = (char *)co->sp - (char *)co->stack_bottom;
    co->ucontext.uc_link = NULL;
    makecontext(&co->ucontext, coro_main, 0);
}

#elif defined(__x86_64__)

static inline __attribute__((always_inline)) void switch_raw(Coroutine *from, Coroutine *to)
{
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rsp, %c[sp](%%rdi)\n\t"
                     "movq %%rbp, %c[fp](%%rdi)\n\t"
                     "movq %%rax, %c[pc](%%rdi)\n\t"
                     "movq %c[sp](%%rsi), %%rsp\n\t"
                     "movq %c[fp](%%rsi), %%rbp\n\t"
                     "jmpq *%c[pc](%%rsi)\n"
                     "1:\n\t"
                     : "+D"(from), "+S"(to)
                     : [sp] "i"(offsetof(Coroutine, sp)), [fp] "i"(offsetof(Coroutine, fp)),
                       [pc] "i"(offsetof(Coroutine, pc))
                     : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                       "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc",
                       "memory");
}

static inline void switch_raw_init(Coroutine *co)
{
    /* As after a call: a return address (of nobody, which ends a backtrace) on an aligned stack. */
    uintptr_t top = (uintptr_t)co->sp & ~(uintptr_t)15;

    ((uintptr_t *)top)[-1] = 0;
    ((uintptr_t *)top)[-2] = 0;
    co->sp = (void *)(top - 8);
    co->fp = NULL;
    co->pc = (void *)coro_main;
}

#elif defined(__aarch64__)

static inline __attribute__((always_inline)) void switch_raw(Coroutine *from, Coroutine *to)
{
    register Coroutine *x0 __asm__("x0") = from;
    register Coroutine *x1 __asm__("x1") = to;

    /* hint #38 is "bti jc": a landing place for the jump where the kernel checks them. */
    __asm__ volatile("adr x9, 1f\n\t"
                     "mov x10, sp\n\t"
                     "str x10, [x0, %[sp]]\n\t"
                     "str x29, [x0, %[fp]]\n\t"
                     "str x9, [x0, %[pc]]\n\t"
                     "ldr x10, [x1, %[sp]]\n\t"
                     "ldr x29, [x1, %[fp]]\n\t"
                     "ldr x16, [x1, %[pc]]\n\t"
                     "mov sp, x10\n\t"
                     "br x16\n"
                     "1:\n\t"
                     "hint #38\n\t"
                     : "+r"(x0), "+r"(x1)
                     : [sp] "i"(offsetof(Coroutine, sp)), [fp] "i"(offsetof(Coroutine, fp)),
                       [pc] "i"(offsetof(Coroutine, pc))
                     : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
                       "x14", "x15", "x16", "x17", "x19", "x20", "x21", "x22", "x23", "x24", "x25",
                       "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7",
                       "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18",
                       "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",
                       "v30", "v31", "cc", "memory");
}

static inline void switch_raw_init(Coroutine *co)
{
    co->sp = (void *)((uintptr_t)co->sp & ~(uintptr_t)15);
    co->fp = NULL;
    co->pc = (void *)coro_main;
}
#endif

/* Before the first switch to @co, whose sp is the top of its stack. */
static inline void coro_switch_init(Coroutine *co)
{
    switch_raw_init(co);
#ifdef CORO_TSAN
    co->fiber = __tsan_create_fiber(0);
#endif
}

static inline void coro_switch_destroy(Coroutine *co)
{
#ifdef CORO_TSAN
    __tsan_destroy_fiber(co->fiber);
#endif
}

/*
 * On a stack again.  A coroutine that is entered finds in its caller whom it comes from; if that is a
 * thread's own stack, this is how its bounds are learned, the first time.
 */
static inline void coro_switch_arrived(Coroutine *co)
{
#ifdef CORO_ASAN
    const void *bottom;
    size_t size;

    __sanitizer_finish_switch_fiber(co->fake_stack, &bottom, &size);
    if (co->caller && !co->caller->stack_bottom) { /* else we may come from one that we entered */
        co->caller->stack_bottom = (void *)bottom;
        co->caller->stack_size = size;
    }
#endif
}

/* Run @to; returns when somebody switches back to @from. */
static inline __attribute__((always_inline)) void coro_switch(Coroutine *from, Coroutine *to)
{
#ifdef CORO_TSAN
    if (!from->fiber) {
        from->fiber = __tsan_get_current_fiber();
    }
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
#ifdef CORO_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack_bottom, to->stack_size);
#endif
    switch_raw(from, to);
    coro_switch_arrived(from);
}

#endif
