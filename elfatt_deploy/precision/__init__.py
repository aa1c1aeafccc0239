"""FP16 by measurement: which nodes it harms, and which of them must stay FP32."""
