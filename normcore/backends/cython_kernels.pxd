"""What the kernels' drivers take, for callers in C."""

cdef extern from "loops/loops.h" nogil:
    enum: LANES
    enum: FLOAT_SUMS
    bint fits_float(double value)
    bint comfortable(double value)
    ctypedef struct Affine:
        const double* mean
        const double* scale
        const double* bias
        const double* weights
        const double* biases
        const float* weights32
        const float* biases32
        double lift
        int activation
        int narrow
        int stream
    ctypedef struct Slope:
        const double* mean
        const double* a
        const double* b
        const double* c
        const double* rstd
        const double* weights
        const float* weights32
        int narrow
        int stream
    ctypedef struct ColumnAffine:
        const double* mean
        const double* scale
        const double* bias
        const float* mean32
        const float* rest32
        const float* scale32
        const float* bias32
        int activation
        int narrow
        int stream
        int near
    ctypedef struct ColumnSlope:
        const double* mean
        const double* a
        const double* b
        const double* c
        const double* rstd
        const float* mean32
        const float* rest32
        const float* a32
        const float* b32
        const float* c32
        int narrow
        int stream
        int near
    ctypedef struct Loops:
        size_t itemsize
        double (*value)(const void* x) noexcept nogil
        void (*moments)(
            const void* x, Py_ssize_t runs, Py_ssize_t n, const double* shift, double* s1, double* s2
        ) noexcept nogil
        void (*normalize)(const void* x, Py_ssize_t runs, Py_ssize_t n, const Affine* to, void* y) noexcept nogil
        void (*gradients)(
            const void* dy, const void* x, const float* weights, Py_ssize_t runs, Py_ssize_t n, const double* mean,
            double* s1, double* s2) noexcept nogil
        void (*exact_gradients)(
            const void* dy, const void* x, const double* weights, Py_ssize_t runs, Py_ssize_t n, const double* mean,
            double* s1, double* s2) noexcept nogil
        void (*input_gradient)(
            const void* dy, const void* x, Py_ssize_t runs, Py_ssize_t n, const Slope* by, void* dx) noexcept nogil
        void (*scale)(const void* dy, Py_ssize_t runs, Py_ssize_t n, const double* a, void* dx) noexcept nogil
        void (*activation_gradient)(
            const void* dy, const void* x, Py_ssize_t runs, Py_ssize_t n, const Affine* to, void* dz) noexcept nogil
        void (*column_moments)(
            const void* x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, const double* shift, double* s1, double* s2
        ) noexcept nogil
        void (*column_normalize)(
            const void* x, Py_ssize_t rows, Py_ssize_t n, const ColumnAffine* to, void* y) noexcept nogil
        void (*column_gradients)(
            const void* dy, const void* x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, const float* centre,
            double* s1, double* s2) noexcept nogil
        void (*exact_column_gradients)(
            const void* dy, const void* x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, const double* mean,
            double* s1, double* s2) noexcept nogil
        void (*column_input_gradient)(
            const void* dy, const void* x, Py_ssize_t rows, Py_ssize_t n, const ColumnSlope* by,
            void* dx) noexcept nogil
        void (*column_scale)(const void* dy, Py_ssize_t rows, Py_ssize_t n, const double* a, void* dx) noexcept nogil
        void (*column_activation_gradient)(
            const void* dy, const void* x, Py_ssize_t rows, Py_ssize_t n, const ColumnAffine* to,
            void* dz) noexcept nogil
        void (*parameter_gradients)(
            const void* dy, const void* x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, const double* mean,
            const double* rstd, double* dweight, double* dbias) noexcept nogil
        void (*exact_parameter_gradients)(
            const void* dy, const void* x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t stride, const double* mean,
            const double* rstd, double* dweight, double* dbias) noexcept nogil
        void (*stream_end)() noexcept nogil


cdef struct Array:
    char* data
    Py_ssize_t size  # values
    Py_ssize_t itemsize


cdef struct Forward:
    # The operands of a forward pass; y.data is NULL where statistics are all that is wanted.
    Array x
    Array y
    const double* weight
    const double* bias
    double* mean
    double* var
    double* rstd
    double eps
    bint training
    int activation
    bint stream


cdef struct Backward:
    Array dy
    Array x
    Array dx
    const double* weight
    const double* bias
    const double* mean
    const double* rstd
    double* dweight
    double* dbias
    bint training
    int activation
    bint stream


cdef struct RowForward:
    Array x
    Array y
    const double* weight
    const double* bias
    double* mean
    double* var
    double* rstd
    double eps
    bint centred
    int activation
    bint stream


cdef struct RowBackward:
    Array dy
    Array x
    Array dx
    const double* weight
    const double* bias
    const double* mean
    const double* rstd
    double* dweight
    double* dbias
    bint centred
    int activation
    bint stream


cdef const Loops* loops_of(int storage) noexcept nogil
cdef void* scratch_memory(Py_ssize_t size) except NULL nogil
cdef bint streams(Array to, Array source, Array other) noexcept nogil
cdef int channels_forward_walk(
    const Loops* f, const Forward* o, Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, int num_threads
) except -1 nogil
cdef int channels_backward_walk(
    const Loops* f, const Backward* o, Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, int num_threads
) except -1 nogil
cdef int rows_forward_walk(
    const Loops* f, const RowForward* o, Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters,
    int num_threads) except -1 nogil
cdef int rows_backward_walk(
    const Loops* f, const RowBackward* o, Py_ssize_t rows, Py_ssize_t segments, Py_ssize_t inner, Py_ssize_t parameters,
    int num_threads) except -1 nogil
