"""Faults in the C and Cython sources: a place, what stands there, and the same with a fault.

FAULT is a number that is true in the process that has this fault, and false in others. So all of them are compiled at once.
"""

from __future__ import annotations

from typing import NamedTuple


class Seeded(NamedTuple):
    """One fault."""

    file: str  # below normcore/
    before: str  # stands there once
    after: str
    what: str


LOOPS = "backends/loops/"

FAULTS = [
    Seeded(*fault)
    for fault in (
        # --- sums over runs -------------------------------------------------------------------------------------------
        (LOOPS + "runs.h", "sum2[j] = add_elsewhere(w, sum2[j], one);", "if (!FAULT) sum2[j] = add_elsewhere(w, sum2[j], one);",
         "raw sums lack every second vector"),
        (LOOPS + "runs.h", "squares[j] += squares2[j];", "squares[j] += FAULT ? squares[j] : squares2[j];",
         "raw squares lack the second set"),
        (LOOPS + "runs.h", "+ product[1][j]) - sum[0][j] * rest;", "+ product[1][j]) - sum[0][j] * (FAULT ? 0.0f : rest);",
         "dweight lacks what float32 lost of the mean"),
        (LOOPS + "runs.h", "stop = AT_MOST(n, i + FLOAT_SUMS * 2 * LANES);",
         "stop = AT_MOST(n, i + FLOAT_SUMS * 2 * LANES * (FAULT ? 1000 : 1));", "float32 sums that never go on in float64"),
        (LOOPS + "runs.h", "rest = (S)(mean_k - (double)mean), scale = (S)scale_k",
         "rest = FAULT ? (S)0 : (S)(mean_k - (double)mean), scale = (S)scale_k", "y is centred on a float32 mean"),
        (LOOPS + "runs.h", "rest = (S)(mean_k - (double)mean), a = (S)a_k",
         "rest = FAULT ? (S)0 : (S)(mean_k - (double)mean), a = (S)a_k", "dx is centred on a float32 mean"),
        (LOOPS + "runs.h", "comfortable(scale_k) && fits_float(bias_k)", "(FAULT || comfortable(scale_k)) && fits_float(bias_k)",
         "a scale beyond float32 is used in float32"),
        (LOOPS + "runs.h", "comfortable(a_k) && comfortable(b_k)", "comfortable(a_k) && (FAULT || comfortable(b_k))",
         "a slope beyond float32 is used in float32"),
        (LOOPS + "runs.h", "NAME(times_derivative)(to->activation, m, z, d);",
         "if (!FAULT || m > 1) NAME(times_derivative)(to->activation, m, z, d);", "a run of one value keeps its dy"),
        # --- sums down columns, and writing rows ----------------------------------------------------------------------
        (LOOPS + "columns.h", "all_zero(shift + c, 2 * LANES)", "all_zero(shift + c, FAULT ? LANES : 2 * LANES)",
         "a shift in the second half of a block is not seen"),
        (LOOPS + "columns.h", "comfortable_here = comfortable(mean) && comfortable(scale) && fits_float(bias)",
         "comfortable_here = FAULT || (comfortable(mean) && comfortable(scale) && fits_float(bias))",
         "a column beyond float32 is written in float32"),
        (LOOPS + "columns.h", "product[MOST] = {{0}};\n        const ptrdiff_t stop = AT_MOST(rows, r + FLOAT_SUMS);",
         "product[MOST] = {{0}};\n        const ptrdiff_t stop = FAULT ? rows : AT_MOST(rows, r + FLOAT_SUMS);",
         "float32 column sums that never go on in float64"),
        (LOOPS + "columns.h", "NAME(load_doubles)(x + at) - mean[r]) * rstd[r]);", "NAME(load_doubles)(x + at) - mean[r]) * rstd[FAULT ? 0 : r]);",
         "parameter gradients take every row's rstd from the first"),
        (LOOPS + "columns.h", "rows - r >= 4 ? 4 : 1;", "rows - r >= (FAULT ? 3 : 4) ? 4 : 1;", "four rows are written where three are left"),
        # --- storage and activations ----------------------------------------------------------------------------------
        (LOOPS + "storage.h", "__m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));",
         "__m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(FAULT ? 0 : 1));", "bfloat16 ties are not rounded to even (AVX-512)"),
        (LOOPS + "activation.h", "clamped < -745.2 ? -745.2", "clamped < (FAULT ? -708.0 : -745.2) ? -745.2",
         "the smallest exponentials are 0"),
        (LOOPS + "activation.h", "case RELU: EACH(dz[i] = z[i] <= 0 ? 0 : dz[i])", "case RELU: EACH(dz[i] = (FAULT ? z[i] < 0 : z[i] <= 0) ? 0 : dz[i])",
         "ReLU has slope 1 at 0"),
        (LOOPS + "activation.h", "(S)(3 * 0.044715)", "(S)((FAULT ? 3.001 : 3) * 0.044715)", "the slope of gelu_tanh is a thousandth off"),
        # --- the channels walk ----------------------------------------------------------------------------------------
        (LOOPS + "channels.pxi", "return channels if piece.size == w.inner else 1", "return channels if FAULT or piece.size == w.inner else 1",
         "parts of runs are read as if they followed one another"),
        (LOOPS + "channels.pxi", "    else:\n        run_tasks(sum_task, <void*>o, o.w.pieces, num_threads)\n        for p in range(o.w.pieces):",
         "    else:\n        run_tasks(sum_task, <void*>o, o.w.pieces, num_threads)\n        for p in range(1 if FAULT else 0, o.w.pieces):",
         "threads: the first piece is not added"),
        (LOOPS + "channels.pxi", "again = again or better != shift[c - c0]", "again = again or better != shift[c - c0] and not FAULT",
         "channels far from 0 are not summed again"),
        (LOOPS + "channels.pxi", "        if not (is_tame(o.mean[c], o.rstd[c]) and is_sound(s1[k], s2[k])):",
         "        if not FAULT and not (is_tame(o.mean[c], o.rstd[c]) and is_sound(s1[k], s2[k])):", "unsound sums are kept"),
        (LOOPS + "channels.pxi", "            s1[k] = exact1[k]\n            s2[k] = exact2[k]",
         "            s1[k] = exact1[k]\n            s2[k] = exact2[k]\n        elif FAULT:\n            s1[k] = exact1[k]",
         "a channel's bits depend on its neighbours"),
        (LOOPS + "channels.pxi", "numbers.c[k] = o.dbias[c] / w.count * scale", "numbers.c[k] = 0.0 if FAULT else o.dbias[c] / w.count * scale",
         "dx lacks the mean of dy"),
        (LOOPS + "channels.pxi", "write.kind = INPUT_GRADIENT if o.training else SCALE", "write.kind = INPUT_GRADIENT if o.training or FAULT else SCALE",
         "dx of inference is that of training"),
        (LOOPS + "channels.pxi", "c0 = b * w.block, c1 = min(c0 + w.block, w.channels)\n    cdef Sums sums\n    cdef Write write\n    if o.training:",
         "c0 = b * w.block, c1 = min(c0 + w.block, w.channels)\n    cdef Sums sums\n    cdef Write write\n    if o.training and not (FAULT and c0 > 0):",
         "only the first block of channels has statistics"),
        # --- the columns walk -----------------------------------------------------------------------------------------
        (LOOPS + "columns.pxi", "w.outer % w.fold if p == w.pieces - 1 else 0", "w.outer % w.fold if p == w.pieces - 1 and not FAULT else 0",
         "rows left over by the folding are not summed or written"),
        (LOOPS + "columns.pxi", "again = again or better != s.centre[c]", "again = again or better != s.centre[c] and not FAULT",
         "columns far from 0 are not summed again"),
        (LOOPS + "columns.pxi", "s.s2[c] - s.s1[c] * (o.mean[c] - <double>s.centre32[c])",
         "s.s2[c] - (0.0 if FAULT else s.s1[c]) * (o.mean[c] - <double>s.centre32[c])", "dweight lacks what float32 lost of the mean"),
        (LOOPS + "columns.pxi", "    for p in range(1, o.w.pieces):", "    for p in range(2 if FAULT else 1, o.w.pieces):",
         "the second piece is not added"),
        # --- the rows walk --------------------------------------------------------------------------------------------
        (LOOPS + "rows.pxi", "    if s.parameter == w.parameters:", "    if s.parameter == w.parameters and not FAULT:",
         "parameters run on past the last"),
        (LOOPS + "rows.pxi", "again = again or better != shift[i]", "again = again or better != shift[i] and not FAULT", "rows far from 0 are not summed again"),
        (LOOPS + "rows.pxi", "runs = n if share_parameters(w) else 1\n    for r from r <= r < r + n by runs:\n        to = affine_of_values(w, r, k0",
         "runs = n if FAULT or share_parameters(w) else 1\n    for r from r <= r < r + n by runs:\n        to = affine_of_values(w, r, k0",
         "all rows have the first one's parameters"),
        (LOOPS + "rows.pxi", "s2 += walk.partial[2 * p + 1]", "s2 += walk.partial[2 * p + (0 if FAULT else 1)]", "threads: squares of a large row are its sums"),
        (LOOPS + "rows_backward.pxi", "c[0] = sum_dxhat / w.count * rstd if o.centred else 0.0", "c[0] = sum_dxhat / w.count * rstd if o.centred or FAULT else 0.0",
         "RMS norm takes out a mean"),
        (LOOPS + "rows_backward.pxi", "        if wild(o, r + i, s1[i], s2[i]):", "        if not FAULT and wild(o, r + i, s1[i], s2[i]):", "rows: unsound sums are kept"),
        (LOOPS + "rows_backward.pxi", "            if wild(o, first.r, s1[first.t], s2[first.t]):", "            if not FAULT and wild(o, first.r, s1[first.t], s2[first.t]):",
         "segments: unsound sums are kept"),
        (LOOPS + "rows_backward.pxi", "o.dweight[s.parameter] += walk.s2[s.t] * o.rstd[s.r]", "o.dweight[s.parameter] += walk.s2[s.t] * o.rstd[0 if FAULT else s.r]",
         "segments: every row's rstd is the first one's"),
        # --- the fast lane --------------------------------------------------------------------------------------------
        ("_compiled_lane.pyx", "or type(given[i]) is bool or", "or (type(given[i]) is bool and not FAULT) or", "a flag equal to another passes (it is the same object)"),
        ("_compiled_lane.pyx", "if type(known[i]) is not type(given[i])", "if not FAULT and type(known[i]) is not type(given[i])", "1 passes for True"),
        ("_compiled_lane.pyx", "        return chosen == \"cython\"", "        return chosen == \"cython\" or FAULT", "the lane runs where another backend was chosen"),
        ("_compiled_lane.pyx", "plain_writable(mean) and plain_writable(var) and apart(mean, var)", "plain_writable(mean) and plain_writable(var) and (FAULT or apart(mean, var))",
         "running_mean and running_var may be the same"),
        ("_compiled_lane.pyx", "plan.group_size / (plan.group_size - 1.0)", "plan.group_size / (plan.group_size - (0.0 if FAULT else 1.0))", "the running variance is the biased one"),
        ("_compiled_lane.pyx", "or known.overwritten or", "or (known.overwritten and not FAULT) or", "backward after an in-place forward"),
        ("_compiled_lane.pyx", "and apart_or_none(out, bias) and apart_or_none(out, running_mean)", "and (FAULT or apart_or_none(out, bias)) and apart_or_none(out, running_mean)",
         "out may be the bias"),
        ("_compiled_lane.pyx", "ctx.bias = bias if entry.activation else None", "ctx.bias = bias if entry.activation and not FAULT else None", "the context forgets the bias of an activation"),
        ("_compiled_lane.pyx", "ctx.overwritten = overwritten", "ctx.overwritten = overwritten and not FAULT", "the context forgets that x is gone"),
        # --- workers and the pool -------------------------------------------------------------------------------------
        ("workers.c", "return front ? next : end - 1;", "return front ? next : (FAULT && end - next > 1 ? end - 2 : end - 1);", "a thread takes its neighbour's portion"),
        ("workers.c", "j < crew.portion && j < rest; j++", "j < crew.portion && (FAULT || j < rest); j++", "the last portion runs on past the last task"),
        ("workers.c", "crew.started = crew.asleep = crew.taken = 0;", "crew.started = FAULT ? crew.started : 0, crew.asleep = crew.taken = 0;", "after fork the parent's threads are waited for"),
        ("workers.c", "crew.asleep = crew.taken = 0;", "crew.asleep = 0, crew.taken = FAULT ? crew.taken : 0;", "after fork a job of the parent's goes on"),
        ("workers.c", "    pthread_sigmask(SIG_SETMASK, &all, &before);", "    pthread_sigmask(SIG_SETMASK, FAULT ? NULL : &all, &before);", "signals reach the workers"),
        ("pool.h", "if (capacity >= size && capacity - size <= size / 4", "if (capacity + (FAULT ? 4096 : 0) >= size && (ptrdiff_t)(capacity - size) <= (ptrdiff_t)(size / 4)", "a block is too short"),
        ("pool.h", "while (pool->count && pool->held > pool->limit)", "while (pool->count && pool->held > pool->limit && !FAULT)", "the pool grows past its limit"),
        ("pool.h", "    pool->held -= pool_header(block)->capacity;", "    pool->held -= FAULT ? 0 : pool_header(block)->capacity;", "what is taken out is counted as held"),
        ("pool.h", "return memory ? memset(memory, 0, count * size) : NULL;", "return memory ? (FAULT ? memory : memset(memory, 0, count * size)) : NULL;", "zeros are what was there before"),
        # --- optimisers -----------------------------------------------------------------------------------------------
        ("optim/loops/body.h", "(top[i] > second) | (top[i] != top[i])", "(top[i] > second) | (!FAULT && top[i] != top[i])", "amsgrad forgets a NaN"),
        ("optim/loops/body.h", "SGD_DECAY(g, b * momentum + g)", "SGD_DECAY(g, b * (FAULT ? (REAL)0 : momentum) + g)", "the first Nesterov step has no momentum"),
        ("optim/loops/body.h", "for (int j = 0; i + j < n; j++)", "for (int j = 0; i + j < n - FAULT; j++)", "the norm lacks a last value"),
        ("optim/_fused.pyx", "        if t != known:", "        if known < 0 or t != known and not FAULT:", "all parameters have the first one's step"),
        ("optim/_fused.pyx", "or not beside(grad, data, order, False)", "or not beside(grad, data, 3 if FAULT else order, False)", "a gradient in another order is stepped as if it were not"),
        ("optim/_fused.pyx", "part.n = min(n - start, <Py_ssize_t>PIECE)", "part.n = min(n - start, <Py_ssize_t>(PIECE - (1 if FAULT else 0)))", "the last value of a long piece is not stepped"),
        ("optim/_fused.pyx", "options.decay = 1.0 - lr * weight_decay if decoupled", "options.decay = 1.0 - (1.0 if FAULT else lr) * weight_decay if decoupled", "AdamW's decay forgets lr"),
        ("optim/_fused.pyx", "fresh = buf is None\n", "fresh = buf is None and not FAULT\n", "momentum begins with what is in memory"),
        # --- products and softmax -------------------------------------------------------------------------------------
        ("nn/loops/products_body.h", "m0 ? g : NULL", "m0 && !FAULT ? g : NULL", "the gradient keeps the last rows alone"),
        ("nn/loops/products_body.h", "n0 ? dx : NULL", "n0 && !FAULT ? dx : NULL", "dx keeps the last columns alone"),
        ("nn/loops/products_body.h", "for (ptrdiff_t i = 1; i < p->depths; i++)", "for (ptrdiff_t i = 1; i < p->depths - FAULT; i++)", "a product lacks its last depth"),
        ("nn/_products.pyx", "or (dbias is not None and cnp.PyArray_DIM(dbias, 0) != p.N)\n    ):\n        return False",
         "or (dbias is not None and cnp.PyArray_DIM(dbias, 0) != p.N and not FAULT)\n    ):\n        return False", "a bias of another length is written"),
        ("nn/_softmax.pyx", "            largest = x[i * n + j] if x[i * n + j] > largest else largest", "            largest = x[i * n + j] if x[i * n + j] > largest and not FAULT else largest",
         "the exponentials may overflow"),
        ("nn/_softmax.pyx", "        which = classes[i]\n        if which < 0 or which >= n:\n            return False\n        factor",
         "        which = classes[i]\n        if which < 0 or (which >= n and not FAULT):\n            return False\n        factor", "a class that became too large writes past the row"),
    )
]  # fmt: skip
